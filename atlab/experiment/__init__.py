"""One training run from a data set to a run folder, many of them, and what they will cost."""

from atlab.system.extras import check

check(__name__)

from atlab.data.catalog import load_data
from atlab.experiment.estimate import estimate_run
from atlab.experiment.many import train_many
from atlab.experiment.one import remarks, required_by
from atlab.experiment.settings import NOISE, Settings, from_parameters
from atlab.experiment.skeleton import NETWORKS, study_of, train, train_required

__all__ = [
    "NETWORKS",
    "NOISE",
    "Settings",
    "estimate_run",
    "from_parameters",
    "load_data",
    "remarks",
    "required_by",
    "study_of",
    "train",
    "train_many",
    "train_required",
]
