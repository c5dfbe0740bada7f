"""One compact training loop, its checkpoints and its evaluation."""

from atlab.system.extras import check

check(__name__)

from atlab.losses.term import LossTerm
from atlab.training.evaluation import Evaluation, evaluate
from atlab.training.loop import fit
from atlab.training.optimizers import Sgd
from atlab.training.step import step_losses
from atlab.training.stream import Stream
from atlab.training.sums import NotFinite

__all__ = ["Evaluation", "LossTerm", "NotFinite", "Sgd", "Stream", "evaluate", "fit", "step_losses"]
