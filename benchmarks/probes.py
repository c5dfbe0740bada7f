"""What probing costs beside extracting the features: all 13 layers, 3 factors, 1/8 width, 5,760 clips of synthetic speech.

    python -m benchmarks.probes [--data FOLDER] [--clips N] [--out FILE]

In processor time on one thread. Each number of clips has a process of its own, so that its peak memory is its own; a quarter
of the clips beside all of them shows what memory does with their number. The network has random weights.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

FACTORS = ("word", "speaker", "emotion")


def one(data: str, clips: int, width: float = 1 / 8) -> dict:
    """Extract, then probe: seconds of processor time, peak memory (MB) before and after."""
    import numpy as np
    import torch

    from atlab import experiment, models
    from atlab.invariance import features
    from atlab.invariance.probes import presence

    torch.set_num_threads(1)
    torch.manual_seed(0)
    fs = experiment.load_data(data)
    rows = np.sort(np.random.default_rng(0).permutation(len(fs))[:clips])
    model = models.vgg16(10, width=width).eval()
    model.set_normalisation(0.01, 0.03)
    features.extract(model, features.batches_of(fs, rows[:64]), progress=False)
    before, start = peak(), time.process_time()
    found = features.extract(model, features.batches_of(fs, rows), progress=False)
    extracted, middle = peak(), time.process_time()
    labels = {name: fs.labels(name, rows) for name in FACTORS if name in fs.factor_names}
    table = presence.presence(found, labels, fs.factors["source"].to_numpy()[rows], progress=False)
    return {
        "clips": len(rows),
        "layers": len(found),
        "factors": len(labels),
        "probes": len(table),
        "extract_s": round(middle - start, 2),
        "probe_s": round(time.process_time() - middle, 2),
        "ratio": round((time.process_time() - middle) / (middle - start), 2),
        "peak_mb": {"before": before, "extracted": extracted, "probed": peak()},
        "features_mb": round(sum(x.nbytes for x in found.values()) / 2**20, 1),
    }


def peak() -> float:
    """Most memory that this process has held, in MB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="synthetic_speech")
    parser.add_argument("--clips", type=int, default=5760)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/probes.json")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    a = parser.parse_args(arguments)
    if a.one:
        print(json.dumps(one(a.data, a.clips)))
        return {}
    from benchmarks.machine import describe

    sizes, results = (a.clips // 4, a.clips), []
    for clips in sizes:
        words = [sys.executable, "-m", "benchmarks.probes", "--one", "--data", a.data, "--clips", str(clips)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        results.append(json.loads(done.stdout.splitlines()[-1]))
        print(results[-1])
    small, large = results
    grown = (large["peak_mb"]["probed"] - small["peak_mb"]["probed"]) * 1024 / (large["clips"] - small["clips"])
    found = {"machine": describe(), "results": results, "memory_kb_per_clip": round(grown, 2), "goal": {"ratio": 2.0}}
    a.out.write_text(json.dumps(found, indent=1) + "\n")
    return found


if __name__ == "__main__":
    main()
