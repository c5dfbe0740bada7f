"""Embedded data sets that need no download: speech, notes, toys."""
