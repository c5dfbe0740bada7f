"""Drawing a confounded split: who is paired with whom, an even test part, paired and unpaired clips of every class."""

from __future__ import annotations

import numpy as np

from atlab.errors import AtlabError


def pair(classes: list, others: list, rng: np.random.Generator) -> dict:
    """Each class's own orthogonal values, dealt in turn; a shared one if there are too few."""
    others = [others[i] for i in rng.permutation(len(others))]
    if len(others) < len(classes):
        return {c: {others[i % len(others)]} for i, c in enumerate(classes)}
    return {c: set(others[i :: len(classes)]) for i, c in enumerate(classes)}


def even_sample(factors: list[np.ndarray], fraction: float, rng: np.random.Generator) -> np.ndarray:
    """As many rows from every cell of the crossing: `fraction` of the smallest non-empty one, at least 1.

    None for a fraction of 0.
    """
    codes = np.stack([np.unique(factor, return_inverse=True)[1] for factor in factors])
    _, cell_of = np.unique(codes, axis=1, return_inverse=True)
    cells = [rng.permutation(np.flatnonzero(cell_of == cell)) for cell in range(cell_of.max() + 1)]
    count = max(1, round(fraction * min(map(len, cells)))) if fraction else 0
    return np.concatenate([cell[:count] for cell in cells])


def shares(count: int, share: float) -> tuple[int, int]:
    """Numbers for training and validation."""
    return count - round(share * count), round(share * count)


def deal_sources(cells: list[np.ndarray], sources: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """bool [N]: clips that may validate: `share` of the sources of every cell, each with all its clips."""
    validating: set = set()
    dealt: set = set()
    for rows in cells:
        new = rng.permutation(sorted(set(sources[rows].tolist()) - dealt))
        dealt.update(new.tolist())
        validating.update(new[: shares(len(new), share)[1]].tolist())
    return np.isin(sources, sorted(validating))


def confound(pools: list[list[np.ndarray]], p: float, a_class: int | None) -> np.ndarray:
    """Sorted rows: of every class, the same number from its pools (paired, unpaired), a share p of it paired.

    As many as the smallest pools allow, if `a_class` is None; AtlabError if these are too few.
    """
    paired, unpaired = (min(len(pool[kind]) for pool in pools) for kind in (0, 1))
    most = max(
        (n for n in range(paired + unpaired + 1) if round(p * n) <= paired and n - round(p * n) <= unpaired), default=0
    )
    count = most if a_class is None else a_class
    if not 1 <= count <= most:
        raise AtlabError(
            f"{count if count > most else 'no'} clips per class cannot be confounded with p = {p}: "
            f"a class has at least {paired} paired "
            f"and {unpaired} unpaired clips for this part, which allows {most}"
        )
    chosen = [pool[kind][:n] for pool in pools for kind, n in enumerate((round(p * count), count - round(p * count)))]
    return np.sort(np.concatenate(chosen))
