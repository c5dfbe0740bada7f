"""`python -m scripts.torture kills | inputs | mutations [COUNT]`: what `make torture` runs; each ends with a line of figures."""

from __future__ import annotations

import sys

from scripts.torture import inputs, kills, mutations

PARTS = {"kills": (kills.run, 100), "inputs": (inputs.run, 640), "mutations": (mutations.run, 32_000)}

if __name__ == "__main__":
    part, count = PARTS[sys.argv[1]]
    sys.exit(part(int(sys.argv[2]) if len(sys.argv) > 2 else count))
