"""One explorer per file: its controls and figures."""
