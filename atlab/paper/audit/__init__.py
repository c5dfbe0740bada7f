"""The paper compared with the authors' published code: differences shown on tensors, names and small data."""
