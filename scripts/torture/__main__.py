"""`python -m scripts.torture trainings | sweeps | inputs | mutations [COUNT]`: what `make torture` runs, one after the other.

Each says what it found in a last line of figures and ends with 1 if that is not what it should be.
"""

from __future__ import annotations

import sys

from scripts.torture import inputs, kills, mutations

PARTS = {
    "trainings": (kills.trainings, 100),
    "sweeps": (kills.sweeps, 10),
    "inputs": (inputs.run, 640),
    "mutations": (mutations.run, 32_000),
}

if __name__ == "__main__":
    part, count = PARTS[sys.argv[1]]
    sys.exit(part(int(sys.argv[2]) if len(sys.argv) > 2 else count))
