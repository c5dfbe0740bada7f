"""Frozen networks of the orthogonal task: run live, read from a cache, or minus what the target explains."""

from atlab.teachers.cached import CachedTeacher, cached_or_live
from atlab.teachers.live import Teacher
from atlab.teachers.residual import ResidualTeacher

__all__ = ["CachedTeacher", "ResidualTeacher", "Teacher", "cached_or_live"]
