"""One compact training loop, its checkpoints and its evaluation."""

from atlab.system.extras import check

check(__name__)

from atlab.losses.term import LossTerm
from atlab.training.evaluation import Evaluation, evaluate
from atlab.training.loop import NotFinite, fit, step_losses
from atlab.training.optimizers import Sgd

__all__ = ["Evaluation", "LossTerm", "NotFinite", "Sgd", "evaluate", "fit", "step_losses"]
