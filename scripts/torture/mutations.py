"""Files of atlab changed at random: whatever is in them, reading them gives a value or an AtlabError."""

from __future__ import annotations

import copy
import json
import random
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from atlab import runs
from atlab.data import FactorSet
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError
from atlab.runs import grid, parameters, requirements

LONGEST = 20, 300  # seconds of computing, and by the clock; what takes longer counts as a hang
ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.0, -0.5, 1e308, float("nan"), float("inf"), "", " ", "a",
    "0", "..", "../..", "/", "\0", "\ud800", "é", "x" * 300, "0..3", "0..1000000000", "at", "word", "{}", [], [[]], {}, {"": 0},
    {"a": {"a": {"a": []}}}, [None], ["a", 1], [0] * 1000, "audio", "image", "int16", "<i2", "|O", "parameters",
]  # fmt: skip
BYTES = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"{",
    b"}",
    b"[",
    b"(",
    b"'",
    b"\n",
    b"&a ",
    b"*a",
    b"!!x ",
    b"<<: ",
    b"0x",
    b"1:30",
    b"9" * 5000,
)


def run(count: int) -> int:
    """Read `count` changed files: -> 0 if nothing but AtlabErrors came of them."""
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _late)
    signal.signal(signal.SIGPROF, _late)
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        cases = _cases(Path(folder))
        for number in range(count):
            rng = random.Random(number)
            name, path, read = cases[number % len(cases)]
            original = path.read_bytes()
            path.write_bytes(_changed(original, path.suffix, rng))
            try:
                found[_outcome(read, f"{name}, seed {number}")] += 1
            finally:
                path.write_bytes(original)
    print(f"{count:,} changed files: {', '.join(f'{n:,} {what}' for what, n in sorted(found.items()))}")
    return int(bool(set(found) - {"read", "refused"}))


def _late(*_: object) -> None:
    raise TimeoutError("took too long")


def _outcome(read: Callable[[], object], name: str) -> str:
    signal.setitimer(signal.ITIMER_PROF, LONGEST[0])
    signal.alarm(LONGEST[1])
    try:
        read()
    except AtlabError:
        return "refused"
    except Exception:
        print(f"{name}:\n{traceback.format_exc()}")
        return "foreign exceptions"
    else:
        return "read"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _cases(folder: Path) -> list[tuple[str, Path, Callable[[], object]]]:
    """(name, file to change, how it is read) of every kind of file that a stranger may hand over."""
    data = toy(folder / "toy", words=2, speakers=2, repetitions=2, samples=100).path
    notebook = folder / "n.ipynb"
    cell = new_code_cell(
        "strategy = 'at'  # one of: baseline, at\nlayers = ('conv5',)\nseed = 0  # at least 0\nclips: int | None = 0\ntarget = ''\nrun_dir = ''"
    )
    cell["metadata"]["tags"] = ["parameters"]
    nbformat.write(new_notebook(cells=[cell, new_code_cell("1")], metadata={"atlab": {"requires": ""}}), notebook)
    text = "study: s\nnotebook: n.ipynb\nfixed: {target: word}\naxes: {seed: 0..3, arm: [{strategy: baseline}, {strategy: at, layers: [conv5, conv9]}]}\n"
    text += "exclude:\n  - {seed: 3, strategy: at}\nscales: {tiny: {fixed: {clips: 48}}, laptop: {}}\n"
    (folder / "g.yaml").write_text(text)
    done = runs.open_run(folder, "s", {"seed": 0})
    done.finish({"accuracy": 0.5})

    def look() -> None:
        FactorSet.open(data).read([0])

    def spec() -> None:
        parameters.check(notebook, {})
        requirements.requirements(notebook)

    def table() -> None:
        runs.table(folder / "s")
        runs.Run(done.path).result()

    return [
        ("card", data / "card.json", look),
        ("npy", data / "inputs.npy", look),
        ("grid", folder / "g.yaml", lambda: grid.load(folder / "g.yaml", "tiny")),
        ("notebook", notebook, spec),
        ("params", done.path / "params.json", table),
        ("result", done.path / "result.json", table),
        ("parquet", data / "factors.parquet", look),
    ]


def _changed(content: bytes, suffix: str, rng: random.Random) -> bytes:
    if suffix in (".json", ".ipynb") and rng.random() < 0.7:
        value = json.loads(content)
        for _ in range(rng.randint(1, 3)):
            value = _with_odd(value, rng)
        return json.dumps(value).encode()
    limit = 200 if suffix == ".npy" else len(content)  # its header
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(limit)
        end = min(len(content), start + rng.choice((0, 1, 1, 4, 30, limit)))
        put = rng.choice(BYTES) if rng.random() < 0.5 else rng.randbytes(rng.randint(0, 4))
        if rng.random() < 0.3:
            put = str(rng.choice(ODD)).encode("utf-8", "surrogatepass")
        content = content[:start] + put + content[end:] or b" "
        limit = min(limit, len(content))
    return content


def _with_odd(value: Any, rng: random.Random) -> Any:
    """A copy of a JSON value with one entry, somewhere inside, removed or replaced by something odd."""
    value = copy.deepcopy(value)
    inner, depth = value, rng.randint(0, 4)
    if not isinstance(inner, dict | list) or not inner or (depth == 0 and rng.random() < 0.1):
        return rng.choice(ODD)
    while True:
        key = rng.choice(list(inner)) if isinstance(inner, dict) else rng.randrange(len(inner))
        if depth and isinstance(inner[key], dict | list) and inner[key]:
            inner, depth = inner[key], depth - 1
            continue
        if rng.random() < 0.2:
            del inner[key]
        else:
            inner[key] = rng.choice(ODD)
        return value
