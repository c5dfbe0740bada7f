"""Files, hashes, processes and devices of this machine."""
