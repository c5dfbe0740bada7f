"""Gradual transfer learning between tasks (Fayek et al. 2018)."""
