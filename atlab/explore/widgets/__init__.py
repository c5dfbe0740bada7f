"""Widgets that any explorer is built from."""
