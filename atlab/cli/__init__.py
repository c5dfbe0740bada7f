"""The `atlab` command: parsing, and one file per group of commands."""
