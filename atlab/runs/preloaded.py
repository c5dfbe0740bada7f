"""Imported by the server that kernels are forked from (`forked`)."""

from atlab.runs.forked import preload

preload()
