"""What the explorers show, computed without any widget."""
