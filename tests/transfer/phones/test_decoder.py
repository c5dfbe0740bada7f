"""Decoding: against a plain dynamic program; error rates against jiwer; the bigram against counting."""

from __future__ import annotations

import itertools

import jiwer
import numpy as np
import pytest
import torch

from atlab.data.alphabet import PHONES
from atlab.errors import AtlabError
from atlab.transfer.phones.decoder import bigram, decode, phone_error_rate, scaled_likelihoods
from atlab.transfer.phones.transcripts import fold

TRANSCRIPTS = [[0, 1, 2, 0], [0, 2, 2, 0], [0, 3, 0], [0, 1, 3, 2, 0]]


def plain(scores: np.ndarray, stay: np.ndarray, after, first, last) -> list[int]:
    """All states against all states, in Python; a phone is entered where its first state follows any last one."""
    T, S = scores.shape
    go = np.log1p(-np.exp(stay))
    step = np.full((S, S), -np.inf)
    for a in range(S):
        step[a, a] = stay[a]
        if a % 3 < 2:
            step[a, a + 1] = go[a]
        else:
            for b in range(0, S, 3):
                step[a, b] = go[a] + after[a // 3, b // 3]
    table, choice = np.full((T, S), -np.inf), np.zeros((T, S), dtype=int)
    for phone in range(S // 3):
        table[0, 3 * phone] = first[phone] + scores[0, 3 * phone]
    for t in range(1, T):
        for b in range(S):
            values = table[t - 1] + step[:, b]
            choice[t, b] = values.argmax()
            table[t, b] = values.max() + scores[t, b]
    ends = np.array([table[-1, s] + go[s] + last[s // 3] if s % 3 == 2 else -np.inf for s in range(S)])
    at, path = int(ends.argmax()), []
    for t in range(T - 1, -1, -1):
        path.append(at)
        at = choice[t, at]
    path = path[::-1]
    return [path[0] // 3] + [b // 3 for a, b in itertools.pairwise(path) if b % 3 == 0 and a % 3 == 2]


@pytest.fixture
def scores():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(40, 12, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_decoding_is_that_of_a_plain_dynamic_program(scores, weight):
    language = bigram(TRANSCRIPTS, phones=4)
    stay = torch.linspace(0.3, 0.8, 12, dtype=torch.float64).log()
    offsets = np.array([0, 14, 17, 40])
    found = decode(scores, offsets, stay, language, weight)
    for clip in range(3):
        own = scores[offsets[clip] : offsets[clip + 1]].numpy()
        expected = plain(own, stay.numpy(), *(weight * part.numpy() for part in language))
        assert found[clip] == expected
    assert len(found[1]) == 1 and len(found[2]) > 2


def test_a_phone_after_itself_is_two_phones():
    scores = torch.full((8, 6), -9.0, dtype=torch.float64)
    for t, state in enumerate([0, 1, 2, 2, 0, 1, 1, 2]):
        scores[t, state] = 0
    stay = torch.full((6,), 0.5, dtype=torch.float64).log()
    assert decode(scores, np.array([0, 8]), stay, bigram([[0, 0, 1]], phones=2)) == [[0, 0]]
    with pytest.raises(AtlabError, match="a clip of 2 frames; a phone takes at least 3"):
        decode(scores, np.array([0, 2]), stay, bigram([[0]], phones=2))


def test_the_bigram_is_counted():
    after, first, last = (part.exp().numpy() for part in bigram(TRANSCRIPTS, phones=4, add=0.5))
    assert first == pytest.approx(np.array([4.5, 0.5, 0.5, 0.5]) / 6.0)
    assert after[0] == pytest.approx(np.array([0.5, 2.5, 1.5, 1.5]) / 10.5) and last[0] == pytest.approx(4.5 / 10.5)
    assert after.sum(1) + last == pytest.approx(np.ones(4))
    for bad in ([], [4], [-1]):
        with pytest.raises(AtlabError, match="one or more codes from 0 to 3"):
            bigram([bad], phones=4)


def test_scaled_likelihoods_divide_by_the_training_frames_shares():
    found = scaled_likelihoods(np.array([[0.5, 0.5], [0.0, 1.0]]), np.array([0, 0, 0, 1, -1]))
    expected = np.log(np.array([[0.5, 0.5], [1e-10, 1.0]]) / np.array([4 / 6, 2 / 6]))
    assert found.numpy() == pytest.approx(expected)


def test_error_rates_are_jiwers():
    rng = np.random.default_rng(0)
    names = PHONES[48]
    references = [rng.integers(0, 48, rng.integers(1, 30)).tolist() for _ in range(40)]
    found = [
        [code if rng.random() < 0.7 else int(rng.integers(0, 48)) for code in reference if rng.random() < 0.9]
        for reference in references
    ]
    found[0] = []
    texts = [[" ".join(fold([names[c] for c in codes], 39)) for codes in part] for part in (references, found)]
    assert phone_error_rate(references, found) == pytest.approx(jiwer.wer(*texts))
    for a, b, c, d in zip(references, found, *texts, strict=True):
        assert phone_error_rate([a], [b]) == pytest.approx(jiwer.wer(c, d))
    with pytest.raises(AtlabError, match="one reference per decoded clip, got 40 for 39"):
        phone_error_rate(references, found[:-1])
    with pytest.raises(AtlabError, match="the references hold no phone"):
        phone_error_rate([[]], [[1]])
