"""Frozen networks of the orthogonal task: run live, read from a cache, minus what the target explains, or stored values."""

from atlab.teachers.cached import CachedTeacher, cached_or_live
from atlab.teachers.live import Teacher
from atlab.teachers.residual import ResidualTeacher
from atlab.teachers.stored import StoredTeacher, of_class_means, of_labels, of_predictions

__all__ = [
    "CachedTeacher",
    "ResidualTeacher",
    "StoredTeacher",
    "Teacher",
    "cached_or_live",
    "of_class_means",
    "of_labels",
    "of_predictions",
]
