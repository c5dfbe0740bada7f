"""Intervals, tests and comparisons that say what varies: over seeds, over paired seeds, over test clips."""

from atlab.system.extras import check

check(__name__)

from atlab.stats.intervals import Interval, clip_bootstrap, could_have_seen, mean_interval, paired_difference, verdict
from atlab.stats.paired import holm, paired_p
from atlab.stats.resampling import cluster_bootstrap
from atlab.stats.selection import Best, best_of, by_group, expected_best_of

__all__ = [
    "Best",
    "Interval",
    "best_of",
    "by_group",
    "clip_bootstrap",
    "cluster_bootstrap",
    "could_have_seen",
    "expected_best_of",
    "holm",
    "mean_interval",
    "paired_difference",
    "paired_p",
    "verdict",
]
