"""Forced alignment from a flat start: which HMM state produced which frame, when only the order of phones is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from atlab.errors import AtlabError
from atlab.transfer.phones.frames import Frames

STATES = 3  # of a phone, from left to right (Fayek, Cavedon & Wu 2018: 3 x 48 = 144 targets)
CEPSTRA = 13
BLOCK = 256  # utterances


@dataclass(frozen=True)
class Alignment:
    """The state of every frame, and the model that says so.

    Attributes:
        states: phone * 3 + state of each frame, int64 [frames]; -1 in clips with fewer frames than states.
        stay: log probability of staying in each state for another frame, float64 [3 * phones].
        scores: mean log likelihood per frame (nats), one per iteration.
    """

    states: np.ndarray
    stay: np.ndarray
    scores: list[float]


def align(frames: Frames, transcripts: Sequence[Sequence[int]], phones: int = 48, iterations: int = 20) -> Alignment:
    """Align every clip's frames with its phones, in order, by Viterbi training from a flat start.

    Each phone is a left-to-right HMM of three states with one Gaussian of diagonal covariance over 13 mel cepstra (the
    discrete cosine transform makes log mel energies fit for diagonal covariances). The flat start gives each state of a
    clip the same number of frames; then Gaussians and transitions are estimated from the alignment, and the alignment is
    the most likely path under them, in turn, until nothing changes.

    CTC's forced alignment (torchaudio) has a blank between labels and no states, and librosa's Viterbi multiplies
    probabilities and allows impossible steps with a tiny one; hence `best_paths`.

    Args:
        frames: the clips' frames (`atlab.transfer.phones.frames.features`).
        transcripts: phone codes of each clip, in order, with the silences at the ends.
        phones: number of phone codes.

    Raises AtlabError for more or fewer transcripts than clips, an empty one, a code out of range, and if all
    clips are too short for their phones.
    """
    _check(frames, transcripts, phones)
    x = cepstra(frames)
    chains = [[phone * STATES + state for phone in phones_ for state in range(STATES)] for phones_ in transcripts]
    fits = [len(chain) <= length for chain, length in zip(chains, frames.lengths, strict=True)]
    clips = [clip for clip, fit in enumerate(fits) if fit]
    if not clips:
        raise AtlabError("every clip has fewer frames than its phones have states")
    clips.sort(key=lambda clip: frames.lengths[clip])  # clips of similar length need little padding
    states = np.full(len(x), -1, dtype=np.int64)
    for clip in clips:
        length = frames.lengths[clip]
        chain = np.asarray(chains[clip])
        states[frames.offsets[clip] : frames.offsets[clip + 1]] = chain[np.arange(length) * len(chain) // length]
    scores: list[float] = []
    for _ in range(iterations):
        gaussians, stay = estimate(x, states, frames, chains, phones * STATES)
        before, total = states.copy(), 0.0
        for start in range(0, len(clips), BLOCK):
            total += _align_block(clips[start : start + BLOCK], frames, chains, x, gaussians, stay, states)
        scores.append(total / int((states >= 0).sum()))
        if (states == before).all():
            break
    return Alignment(states, stay.numpy(), scores)


def cepstra(frames: Frames) -> Tensor:
    """13 mel cepstra, normalised over all frames, float64 [frames, 13].

    Without their differences over time, which blur boundaries: on the embedded speech these doubled the median error.
    """
    from scipy.fft import dct

    c = torch.from_numpy(dct(frames.x.double().numpy(), norm="ortho")[:, :CEPSTRA])
    return (c - c.mean(0)) / c.std(0).clamp_min(1e-6)


def estimate(
    x: Tensor, states: np.ndarray, frames: Frames, chains: Sequence[Sequence[int]], count: int
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Means and variances [states, D] of the frames of each state, and the log probability of staying in it [states].

    Variances are at least a hundredth of the variance of all frames, which is 1; a state has been left once by
    each clip that passes it. States without frames have mean 0 and variance 1.
    """
    known = torch.from_numpy(np.flatnonzero(states >= 0))
    codes = torch.from_numpy(states)[known]
    n = torch.zeros(count, dtype=x.dtype).index_add_(0, codes, torch.ones(len(codes), dtype=x.dtype))
    sums = [torch.zeros(count, x.shape[1], dtype=x.dtype).index_add_(0, codes, x[known] ** power) for power in (1, 2)]
    safe = n.clamp_min(1)[:, None]
    means = sums[0] / safe
    variances = torch.where(n[:, None] > 0, (sums[1] / safe - means**2).clamp_min(0.01), torch.ones(()).to(x))
    left = torch.zeros(count, dtype=x.dtype)
    for clip, chain in enumerate(chains):
        if states[frames.offsets[clip]] >= 0:
            left.index_add_(0, torch.as_tensor(chain), torch.ones(len(chain), dtype=x.dtype))
    stay = ((n - left + 1) / (n + 2)).log()
    return (means, variances), stay


def log_densities(x: Tensor, gaussians: tuple[Tensor, Tensor]) -> Tensor:
    """Log density of every frame [F, D] under every state's diagonal Gaussian: -> [F, states]."""
    means, variances = gaussians
    weights = 1 / variances
    constant = (means**2 * weights).sum(1) + variances.log().sum(1) + x.shape[1] * np.log(2 * np.pi)
    return -0.5 * ((x**2) @ weights.T - 2 * x @ (means * weights).T + constant)


def best_paths(scores: Tensor, lengths: Tensor, stay: Tensor, move: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Most likely paths through left-to-right chains, from the first state to the last, many chains at once.

    Args:
        scores: log density of each frame in each state of its chain, [B, T, S]; padding may hold anything finite.
        lengths, ends: frames and states of each chain, int64 [B].
        stay, move: log probability of staying in a state, and of going on to the next, [B, S].

    Returns:
        Position in the chain of each frame, int64 [B, T] (-1 in the padding), and the paths' log probabilities [B].
    """
    batch, frames, states = scores.shape
    best = scores.new_full((batch, states), -torch.inf)
    best[:, 0] = scores[:, 0, 0]
    moved = torch.zeros(batch, frames, states, dtype=torch.bool)
    total = torch.where((lengths == 1) & (ends == 1), best[:, 0], -torch.inf)
    last = torch.arange(batch)
    for t in range(1, frames):
        come = torch.cat([best.new_full((batch, 1), -torch.inf), (best + move)[:, :-1]], dim=1)
        remain = best + stay
        moved[:, t] = come > remain
        best = torch.maximum(come, remain) + scores[:, t]
        total = torch.where(lengths == t + 1, best[last, ends - 1], total)
    path = torch.full((batch, frames), -1)
    at = ends - 1
    for t in range(frames - 1, -1, -1):
        inside = t < lengths
        path[inside, t] = at[inside]
        at = at - (moved[last, t, at] & inside).long()
    return path, total


def _align_block(clips, frames: Frames, chains, x: Tensor, gaussians, stay: Tensor, states: np.ndarray) -> float:
    """Write the best paths of some clips into `states`: -> their summed log probability."""
    lengths = torch.from_numpy(frames.lengths[clips])
    ends = torch.tensor([len(chains[clip]) for clip in clips])
    chain = torch.zeros(len(clips), int(ends.max()), dtype=torch.int64)
    scores = torch.zeros(len(clips), int(lengths.max()), chain.shape[1], dtype=x.dtype)
    for k, clip in enumerate(clips):
        chain[k, : ends[k]] = torch.as_tensor(chains[clip])
        own = log_densities(x[frames.offsets[clip] : frames.offsets[clip + 1]], gaussians)
        scores[k, : lengths[k]] = own[:, chain[k]]
    go = torch.log1p(-stay.exp())
    paths, total = best_paths(scores, lengths, stay[chain], go[chain], ends)
    for k, clip in enumerate(clips):
        states[frames.offsets[clip] : frames.offsets[clip + 1]] = chain[k, paths[k, : lengths[k]]].numpy()
    return float(total.sum())


def _check(frames: Frames, transcripts: Sequence[Sequence[int]], phones: int) -> None:
    if len(transcripts) != len(frames):
        raise AtlabError(f"expected one transcript per clip, got {len(transcripts)} for {len(frames)}")
    for clip, transcript in enumerate(transcripts):
        if not len(transcript):
            raise AtlabError(f"the transcript of the clip in row {frames.rows[clip]} is empty")
        if min(transcript) < 0 or max(transcript) >= phones:
            raise AtlabError(f"phone code {max(transcript)} in a transcript; allowed: 0 to {phones - 1}")
