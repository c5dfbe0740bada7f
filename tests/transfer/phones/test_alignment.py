"""Forced alignment: best paths against all paths and a plain dynamic program, boundaries against the synthesiser's truth."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from atlab.errors import AtlabError
from atlab.transfer.phones import transcripts as phones
from atlab.transfer.phones.alignment import align, best_paths, cepstra, estimate, log_densities
from atlab.transfer.phones.frames import Frames, features, phone_codes


def boundaries(states: np.ndarray, frames: Frames) -> list[np.ndarray]:
    """First sample of every phone of every clip (none of a clip that was not aligned), halfway between frames."""
    found = []
    for clip, first in enumerate(frames.first):
        own = states[frames.offsets[clip] : frames.offsets[clip + 1]]
        begins = [i for i in range(len(own)) if own[i] >= 0 and (i == 0 or (own[i] % 3 == 0 and own[i - 1] % 3 == 2))]
        found.append((first + np.array(begins, dtype=np.int64)) * 160 + 200 - 80)
    return found


def made(lengths: list[int], seed: int = 0) -> Frames:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(lengths), 40, generator=generator)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Frames(x, np.arange(len(lengths)), offsets, np.zeros(len(lengths), dtype=np.int64))


def test_best_paths_are_the_best_of_all_paths():
    """Every way of cutting T frames into S runs, scored one by one."""
    torch.manual_seed(0)
    lengths, ends = torch.tensor([6, 4, 1, 3]), torch.tensor([3, 2, 1, 3])
    scores = torch.randn(4, 6, 3, dtype=torch.float64)
    stay, move = (torch.rand(4, 3, dtype=torch.float64).log() for _ in range(2))
    paths, totals = best_paths(scores, lengths, stay, move, ends)
    for k, (T, S) in enumerate(zip(lengths.tolist(), ends.tolist(), strict=True)):
        best = (-np.inf, None)
        for cuts in combinations(range(1, T), S - 1):
            path = [sum(t >= cut for cut in cuts) for t in range(T)]
            total = sum(float(scores[k, t, s]) for t, s in enumerate(path))
            total += sum(float((stay if a == b else move)[k, a]) for a, b in pairwise(path))
            best = max(best, (total, path))
        assert float(totals[k]) == pytest.approx(best[0], abs=1e-12)
        assert paths[k].tolist() == best[1] + [-1] * (6 - T)


def test_best_paths_of_long_chains_are_those_of_a_plain_dynamic_program():
    torch.manual_seed(1)
    T, S = 60, 18
    scores = 3 * torch.randn(1, T, S, dtype=torch.float64)
    stay, move = (torch.rand(1, S, dtype=torch.float64).log() for _ in range(2))
    paths, total = best_paths(scores, torch.tensor([T]), stay, move, torch.tensor([S]))
    table, choice = np.full((T, S), -np.inf), np.zeros((T, S), dtype=int)
    table[0, 0] = scores[0, 0, 0]
    for t in range(1, T):
        for s in range(S):
            options = [(table[t - 1, s] + float(stay[0, s]), s)]
            if s:
                options.append((table[t - 1, s - 1] + float(move[0, s - 1]), s - 1))
            value, choice[t, s] = max(options)
            table[t, s] = value + float(scores[0, t, s])
    at, path = S - 1, []
    for t in range(T - 1, -1, -1):
        path.append(at)
        at = choice[t, at]
    assert paths[0].tolist() == path[::-1] and float(total[0]) == pytest.approx(table[-1, -1])


def test_densities_and_estimates_are_those_of_scipy_and_plain_counting():
    frames = made([9, 6])
    x = cepstra(frames)
    states = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 0, 1, 1, 1, 2, 2])
    (means, variances), stay = estimate(x, states, frames, [[0, 1, 2], [0, 1, 2]], 6)
    for state in range(3):
        own = x[states == state].numpy()
        assert means[state].numpy() == pytest.approx(own.mean(0))
        assert variances[state].numpy() == pytest.approx(np.maximum(own.var(0), 0.01))
        n = len(own)
        assert float(stay[state].exp()) == pytest.approx((n - 2 + 1) / (n + 2)), "left once by each of two clips"
    assert (means[3:] == 0).all() and (variances[3:] == 1).all()
    found = log_densities(x, (means, variances))
    for state in range(6):
        expected = multivariate_normal(means[state].numpy(), np.diag(variances[state].numpy())).logpdf(x.numpy())
        assert found[:, state].numpy() == pytest.approx(expected)


def test_the_cepstra_are_cosines():
    frames = made([7])
    k, n = np.arange(13)[:, None], np.arange(40)
    cosines = np.sqrt(2 / 40) * np.cos(np.pi * k * (2 * n + 1) / 80) / np.where(k == 0, np.sqrt(2), 1)
    expected = frames.x.double().numpy() @ cosines.T
    expected = (expected - expected.mean(0)) / expected.std(0, ddof=1)
    assert cepstra(frames).numpy() == pytest.approx(expected, abs=1e-9)


def test_boundaries_are_near_the_synthesisers(spoken, capsys):
    texts = phones.phones(spoken)
    frames = features(spoken)
    parts = [phones.segments(text) for text in texts]
    number = {name: code for code, name in enumerate(phones.PHONES[48])}
    transcripts = [[number[name] for name in phones.fold([p for _, _, p in clip], 48)] for clip in parts]
    found = align(frames, transcripts)
    assert (found.states >= 0).all() and (np.diff(found.scores) > -1e-9).all(), "every iteration fits better"
    errors = []
    for clip, begins, transcript in zip(parts, boundaries(found.states, frames), transcripts, strict=True):
        assert len(begins) == len(transcript)
        errors += [abs(begin - first) / 16 for begin, (first, _, _) in zip(begins[1:], clip[1:], strict=True)]
    agreement = (found.states // 3 == phone_codes(frames, texts)).mean()
    with capsys.disabled():
        print(f"\nboundaries: median {np.median(errors):.1f} ms from the truth; frames right: {agreement:.1%}")
    assert np.median(errors) < 20 and agreement > 0.7
    for clip, transcript in enumerate(transcripts):
        own = found.states[frames.offsets[clip] : frames.offsets[clip + 1]]
        chain = [3 * phone + state for phone in transcript for state in range(3)]
        assert own[np.flatnonzero(np.diff(own, prepend=-1))].tolist() == chain, "every state, in order"


def test_clips_too_short_for_their_phones_are_left_out():
    frames = made([12, 5, 9])
    found = align(frames, [[0, 1], [0, 1], [1]], phones=2, iterations=3)
    own = [found.states[a:b] for a, b in zip(frames.offsets, frames.offsets[1:], strict=False)]
    assert (own[1] == -1).all() and (own[0] >= 0).all() and set(own[2]) == {3, 4, 5}
    assert [len(begins) for begins in boundaries(found.states, frames)] == [2, 0, 1]
    with pytest.raises(AtlabError, match="every clip has fewer frames than its phones have states"):
        align(made([4]), [[0, 1]], phones=2)


@pytest.mark.parametrize(
    ("transcripts", "message"),
    [
        ([[0]], "one transcript per clip, got 1 for 2"),
        ([[0], []], "the transcript of the clip in row 1 is empty"),
        ([[0], [48]], "phone code 48 in a transcript; allowed: 0 to 47"),
    ],
)
def test_transcripts_that_do_not_fit_are_refused(transcripts, message):
    with pytest.raises(AtlabError, match=message):
        align(made([9, 9]), transcripts)
