"""What probing costs: next to extracting the features, and next to the same probes by scikit-learn.

    python -m benchmarks.probes [--data FOLDER] [--clips N] [--sizes 6000x64x10 ...] [--out FILE]

First all 13 layers and 3 factors of a network of 1/8 width with random weights, on 5,760 clips of synthetic speech and on a
quarter of them, which shows how memory grows with clips. Then the linear probe of one factor on random features of
CLIPSxFEATURESxCLASSES: `presence` against a loop over scikit-learn's LogisticRegression with the same folds, strengths and
labels. In processor time on one thread; each measurement has a process of its own, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

FACTORS = ("word", "speaker", "emotion")
SIZES = ("6000x64x2", "6000x64x10", "100000x512x10")


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


def probe(which: str, size: str) -> dict:
    """Seconds of processor time and memory (MB) of one factor's linear probe, true and shuffled labels, by `which`."""
    import numpy as np
    import torch

    from atlab.invariance.probes import presence

    torch.set_num_threads(1)
    clips, features, classes = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=clips)
    x = rng.standard_normal((clips, features), dtype=np.float32)
    x += 0.1 * rng.standard_normal((classes, features), dtype=np.float32)[y]
    find = by_scikit_learn if which == "scikit-learn" else by_presence
    find(presence, x[:500], y[:500])  # imports and warms up
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before, start = peak(), time.process_time()
    right = find(presence, x, y)
    seconds = round(time.process_time() - start, 2)
    return {"by": which, "size": size, "s": seconds, "mb": round(peak() - before, 1), "right": round(right, 4)}


def by_presence(presence, x, y) -> float:
    return presence.presence({"x": x}, {"y": y}, bits=False, progress=False)["balanced_accuracy"].item()


def by_scikit_learn(presence, x, y) -> float:
    """Strengths chosen on 2,000 clips inside each of 5 folds, then a probe of true and one of shuffled labels per fold."""
    import numpy as np
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def fitted(rows, labels, c):
        model = LogisticRegression(C=c, class_weight="balanced", max_iter=1000)
        return make_pipeline(StandardScaler(), model).fit(x[rows], labels[rows])

    rng, part, named = np.random.default_rng(0), presence.deal(np.arange(len(y)), 5), np.empty_like(y)
    few, shuffled = np.sort(rng.permutation(len(y))[: presence.CHOICE]), rng.permutation(y)
    for fold in range(5):
        after = (fold + 1) % 5
        train, held = few[~np.isin(part[few], (fold, after))], few[part[few] == after]
        losses = [log_loss(y[held], fitted(train, y, c).predict_proba(x[held])) for c in presence.STRENGTHS]
        c, rows, test = presence.STRENGTHS[int(np.argmin(losses))], part != fold, part == fold
        named[test] = fitted(rows, y, c).predict(x[test])
        fitted(rows, shuffled, c).predict(x[test])
    return float(balanced_accuracy_score(y, named))


def peak() -> float:
    """Most memory that this process has held, in MB."""
    held = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return round(int(held.split()[1]) / 1024, 1)


def main(arguments: list[str] | None = None) -> dict:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.probes", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="synthetic_speech")
    parser.add_argument("--clips", type=int, default=5760)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results/probes.json")
    parser.add_argument("--sizes", nargs="*", default=SIZES)
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    a = parser.parse_args(arguments)
    if a.one:
        print(json.dumps(one(a.data, a.clips) if a.one == ["network"] else probe(*a.one)))
        return {}
    from benchmarks.machine import describe

    small, large = (_apart("network", "--data", a.data, "--clips", str(clips)) for clips in (a.clips // 4, a.clips))
    grown = (large["peak_mb"]["probed"] - small["peak_mb"]["probed"]) * 1024 / (large["clips"] - small["clips"])
    found = {"machine": describe(), "results": [small, large], "memory_kb_per_clip": round(grown, 2)}
    found |= {"goal": {"ratio": 2.0}, "scikit_learn": [_against(size) for size in a.sizes]}
    a.out.write_text(json.dumps(found, indent=1) + "\n")
    return found


def _against(size: str) -> dict:
    ours, theirs = (_apart(which, size) for which in ("presence", "scikit-learn"))
    ratio = {what: round(theirs[what] / max(ours[what], 0.01), 2) for what in ("s", "mb")}
    print(f"{size}: scikit-learn takes {ratio['s']} times the time and {ratio['mb']} times the memory")
    return {"ours": ours, "theirs": theirs, "ratio": ratio}


def _apart(*words: str) -> dict:
    """A measurement in a process of its own, on one thread."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.probes", "--one", *words],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return found


if __name__ == "__main__":
    main()
