"""Class activation maps: Grad-CAM, agreement of maps, sanity checks."""
