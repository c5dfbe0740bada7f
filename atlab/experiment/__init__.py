"""One training run from a data set to a run folder, many of them, and what they will cost."""

from atlab.system.extras import check

check(__name__)

from atlab.data.catalog import load_data
from atlab.experiment.estimate import estimate_run
from atlab.experiment.many import train_many
from atlab.experiment.one import make_split, open_data, required_by, study_of, train, train_required
from atlab.experiment.settings import NETWORKS, NOISE, SPLITS, STARTS, Settings, from_parameters

__all__ = [
    "NETWORKS",
    "NOISE",
    "SPLITS",
    "STARTS",
    "Settings",
    "estimate_run",
    "from_parameters",
    "load_data",
    "make_split",
    "open_data",
    "required_by",
    "study_of",
    "train",
    "train_many",
    "train_required",
]
