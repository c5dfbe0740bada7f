"""Phones from frame scores: a bigram phone model, Viterbi decoding through three-state HMMs, the phone error rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import edit_distance

from atlab.data.alphabet import PHONES
from atlab.errors import AtlabError
from atlab.transfer.phones.alignment import STATES
from atlab.transfer.phones.transcripts import fold

BLOCK = 256  # clips


def bigram(transcripts: Sequence[Sequence[int]], phones: int = 48, add: float = 0.1) -> tuple[Tensor, Tensor, Tensor]:
    """Log probabilities of a phone after another [phones, phones], first [phones] and last of a clip [phones], float64.

    Counts of the training transcripts (Fayek, Cavedon & Wu 2018: "a bi-gram language model estimated from the training
    set") plus `add` for every pair, so that none is impossible. What follows a phone, another one or the clip's
    end, sums to one. AtlabError for an empty transcript or a code out of range.

    >>> after, first, last = bigram([[0, 1, 0], [0, 0]], phones=2, add=0)
    >>> after.exp().tolist(), first.exp().tolist(), last.exp().tolist()
    ([[0.25, 0.25], [1.0, 0.0]], [1.0, 0.0], [0.5, 0.0])
    """
    counts = torch.full((phones + 1, phones + 1), float(add), dtype=torch.float64)  # the last: before and after a clip
    for transcript in transcripts:
        if not len(transcript) or min(transcript) < 0 or max(transcript) >= phones:
            raise AtlabError(
                f"a transcript is {list(transcript)[:8]}; allowed: one or more codes from 0 to {phones - 1}"
            )
        path = torch.tensor([phones, *transcript, phones])
        counts.index_put_((path[:-1], path[1:]), torch.ones(len(path) - 1, dtype=torch.float64), accumulate=True)
    counts[phones, phones] = 0
    logs = (counts / counts.sum(1, keepdim=True).clamp_min(1e-300)).log()
    return logs[:phones, :phones], logs[phones, :phones], logs[:phones, phones]


def scaled_likelihoods(probabilities: np.ndarray, states: np.ndarray) -> Tensor:
    """Log of p(state | frame) / p(state), float64 [frames, classes]: what a hybrid system takes for p(frame | state).

    `states` are those of the training frames (Bourlard & Morgan 1994); each class is counted once more than it occurs.
    """
    counts = np.bincount(states[states >= 0], minlength=probabilities.shape[1]) + 1.0
    posterior = torch.from_numpy(np.asarray(probabilities, dtype=np.float64)).clamp_min(1e-10).log()
    return posterior - torch.from_numpy(np.log(counts / counts.sum()))


def decode(
    scores: Tensor, offsets: np.ndarray, stay: Tensor, language: tuple[Tensor, Tensor, Tensor], weight: float = 1.0
) -> list[list[int]]:
    """Phones of each clip: those of the most likely path through the states.

    A path enters a phone in its first state, passes the three in order, and goes from the last to the first of any phone.

    Args:
        scores: log likelihood of each frame in each state, [frames, phones * 3].
        offsets: where each clip's frames begin, and the end, [clips + 1].
        stay: log probability of staying in a state, [phones * 3].
        language: what `bigram` gives.
        weight: on its log probabilities.

    Raises AtlabError if a clip has fewer than three frames.
    """
    lengths = np.diff(offsets)
    if (lengths < STATES).any():
        raise AtlabError(f"a clip of {lengths.min()} frames; a phone takes at least {STATES}")
    found: list[list[int]] = [[] for _ in lengths]
    order = np.argsort(lengths, kind="stable")
    language = tuple(weight * part for part in language)
    for start in range(0, len(order), BLOCK):
        clips = order[start : start + BLOCK]
        block = scores.new_zeros(len(clips), int(lengths[clips].max()), scores.shape[1])
        for k, clip in enumerate(clips):
            block[k, : lengths[clip]] = scores[offsets[clip] : offsets[clip + 1]]
        paths = _best_paths(block, torch.from_numpy(lengths[clips]), stay, *language)
        for k, clip in enumerate(clips):
            found[clip] = _phones(paths[k, : lengths[clip]].tolist())
    return found


def _best_paths(x: Tensor, lengths: Tensor, stay: Tensor, after: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """State of each frame on the most likely path, with entries of phones marked: [B, T] of state, or -1 - state where
    a phone is entered anew (so that a phone after itself is two phones)."""
    batch, frames, count = x.shape
    phones = count // STATES
    x = x.view(batch, frames, phones, STATES)
    stay = stay.view(phones, STATES)
    go = torch.log1p(-stay.exp())
    best = x.new_full((batch, phones, STATES), -torch.inf)
    best[:, :, 0] = first + x[:, 0, :, 0]
    back = torch.zeros(
        batch, frames, phones, STATES, dtype=torch.int16
    )  # 0: stayed, 1: moved on, 2 + p: entered from p
    clip = torch.arange(batch)
    end = torch.zeros(batch, dtype=torch.int64)
    for t in range(1, frames):
        enter, source = (best[:, :, -1] + go[:, -1]).unsqueeze(2).add(after).max(1)
        come = torch.cat([enter.unsqueeze(2), (best + go)[:, :, :-1]], dim=2)
        how = torch.ones_like(come, dtype=torch.int16)
        how[:, :, 0] = (2 + source).to(torch.int16)
        remain = best + stay
        back[:, t] = torch.where(come > remain, how, torch.zeros_like(how))
        best = torch.maximum(come, remain) + x[:, t]
        done = lengths == t + 1
        end[done] = (best[done, :, -1] + go[:, -1] + last).argmax(1)
    path = torch.full((batch, frames), -1)
    phone, state = end, torch.full_like(end, STATES - 1)
    for t in range(frames - 1, -1, -1):
        inside = t < lengths
        step = back[clip, t, phone, state].long()
        entered = (step >= 2) | (t == 0)
        code = phone * STATES + state
        path[inside, t] = torch.where(entered, -1 - code, code)[inside]
        came = inside & (step >= 2)
        state = torch.where(came, STATES - 1, state - ((step == 1) & inside).long())
        phone = torch.where(came, step - 2, phone)
    return path


def _phones(path: list[int]) -> list[int]:
    """Phones that a path enters."""
    return [(-1 - code) // STATES for code in path if code < 0]


def phone_error_rate(references: Sequence[Sequence[int]], found: Sequence[Sequence[int]]) -> float:
    """Errors of all clips over phones of all references, after folding 48 phones to 39 (Lee & Hon 1989).

    Codes are positions in PHONES[48]. Silences count, as one of the 39. AtlabError if there are more or fewer clips, or
    no reference phone.

    >>> sil, zh, sh = (PHONES[48].index(name) for name in ("sil", "zh", "sh"))
    >>> phone_error_rate([[sil, zh, sil]], [[sil, sh, sil]]), phone_error_rate([[sil, zh]], [[sil]])
    (0.0, 0.5)
    """
    if len(references) != len(found):
        raise AtlabError(f"expected one reference per decoded clip, got {len(references)} for {len(found)}")
    total = sum(map(len, references))
    if not total:
        raise AtlabError("the references hold no phone")
    names = PHONES[48]
    errors = sum(
        edit_distance(*(fold([names[code] for code in codes], 39) for codes in pair))
        for pair in zip(references, found, strict=True)
    )
    return errors / total
