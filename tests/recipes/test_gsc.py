from __future__ import annotations

import numpy as np
import pytest
import soundfile

from atlab.data import splits
from atlab.errors import AtlabError
from data_recipes import corpus, gsc
from tests.recipes import corpora

WORDS = ("zero", "one", "two")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return corpora.speech_commands(tmp_path_factory.mktemp("raw") / "speech commands – été")


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = gsc.prepare(raw, tmp_path_factory.mktemp("out") / "gsc", words=WORDS, per_word="all", workers=0)
    assert corpora.snapshot(raw) == before
    return result


LISTS = {"validation_list.txt": 8, "testing_list.txt": 10}  # files that the lists name


def test_every_clip_and_drop_is_accounted_for(fs):
    table = fs.factors
    assert len(fs) == 3 * 12 + 1  # the short one of "one"; zero's silent clip and two's unnamed one are dropped
    assert fs.card["dropped"] == {"silent": 1, "no speaker hash in file name": 1}
    assert fs.card["published_clips"]["found"] == {"zero": 13, "one": 13, "two": 12} | LISTS
    assert fs.card["published_clips"]["published"]["zero"] == 4052
    assert table.word.value_counts().to_dict() == {"zero": 12, "one": 13, "two": 12}
    assert set(table.speaker) == set(corpora.GSC_SPEAKERS)
    assert fs.factor_names == ["word", "speaker", "official"]
    assert fs.sample_rate == 16_000 and fs.read([0]).shape == (1, 16_000) and fs.read([0]).dtype == np.int16
    expected = {"c1d39ce8": "test", "7ff4fc72": "validation"}
    assert all(
        expected.get(speaker, "train") == part for speaker, part in zip(table.speaker, table.official, strict=True)
    )
    short = table.index[table.id == "one/c1d39ce8_nohash_7"][0]
    assert table.duration[short] == pytest.approx(0.4)
    assert (table.duration.drop(short) == 1.0).all()
    assert table.source.is_unique and table.id.is_unique


def test_samples_are_those_of_the_files(fs, raw):
    for row in (0, 20, len(fs) - 1):
        wave, _ = soundfile.read(raw / fs.factors.source[row], dtype="int16")
        read = fs.read([row])[0]
        difference = np.abs(np.sort(np.abs(read))[::-1][: len(wave)].astype(int) - np.sort(np.abs(wave))[::-1])
        assert difference.max() <= 1


def test_the_official_parts_are_the_corpus_own(fs):
    speaker, official = fs.labels("speaker"), fs.labels("official")
    assert [int((official == part).sum()) for part in ("train", "validation", "test")] == [24, 6, 7]
    assert set(speaker[official == "test"]) == {"c1d39ce8"} and set(speaker[official == "validation"]) == {"7ff4fc72"}
    split = splits.official(fs)
    split.check(fs, "word")
    assert [{*official[rows]} for rows in (split.train, split.validation, split.test)] == [
        {"train"},
        {"validation"},
        {"test"},
    ]


def test_splits_do_not_leak(fs):
    for split, by in ((splits.random(fs, seed=1), "source"), (splits.disjoint(fs, by="speaker", seed=1), "speaker")):
        values = fs.factors[by].to_numpy()
        parts = [set(values[rows]) for rows in (split.train, split.validation, split.test)]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_clips_per_word_are_drawn_by_seed(raw, tmp_path):
    first = gsc.prepare(raw, tmp_path / "a", words="zero,one", per_word=5, workers=0, silence=0)
    again = gsc.prepare(raw, tmp_path / "b", words=["zero", "one"], per_word=5, workers=0, silence=0)
    other = gsc.prepare(raw, tmp_path / "c", words=["zero", "one"], per_word=5, workers=0, silence=0, seed=3)
    assert first.factors.word.value_counts().to_dict() == {"zero": 5, "one": 5}
    assert first.content_hash == again.content_hash
    assert set(first.factors.id) != set(other.factors.id)
    assert first.card["dropped"]["not drawn"] == 16


def test_all_words_leave_background_noise_out(raw, tmp_path):
    fs = gsc.prepare(raw, tmp_path / "all", words="all", per_word="all", workers=0)
    assert fs.classes("word") == ["bed", "one", "two", "zero"]


@pytest.mark.parametrize("noise", ["low", "high", "published_low", "published_high"])
def test_noise_has_the_stated_snr(raw, tmp_path, noise):
    """Noise = mixture - speech, the speech re-derived here from the file."""
    fs = gsc.prepare(raw, tmp_path / noise, words=["two"], per_word="all", noise=noise, workers=0)
    clean = gsc.prepare(raw, tmp_path / "none", words=["two"], per_word="all", workers=0)
    assert fs.factor_names == ["word", "speaker", "official", "noise", "snr_db"]
    assert list(fs.factors.id) == list(clean.factors.id)
    assert set(fs.factors.noise) <= {"running_tap", "white_noise"}
    assert fs.card["parameters"]["noise_source"] == "_background_noise_"
    assert set(fs.factors.snr_db) <= set(gsc.NOISE_LEVELS[noise]) and fs.factors.snr_db.nunique() > 1
    for row in range(len(fs)):
        speech = clean.read([row])[0].astype(np.float64)
        speech *= 10 ** (-25 / 20) * 32768 / np.sqrt(np.mean(speech**2))
        mixture = fs.read([row])[0].astype(np.float64)
        assert np.abs(mixture).max() < 32767  # not scaled down, or speech would differ by a factor
        added = mixture - speech
        snr = 10 * np.log10(np.mean(speech**2) / np.mean(added**2))
        assert snr == pytest.approx(fs.factors.snr_db[row], abs=0.1)


def test_noise_levels_are_those_of_the_paper_and_of_its_mixer():
    level = gsc.NOISE_LEVELS
    assert (level["low"][0], level["low"][-1], level["high"][0], level["high"][-1]) == (20, 40, 0, 10)
    for name in ("low", "high"):  # the mixer's noise amplitude is sqrt(10^(-snr/20)): half the dB
        amplitude = [np.sqrt(10 ** (-snr / 20)) for snr in level[name]]
        np.testing.assert_allclose(level[f"published_{name}"], [-20 * np.log10(a) for a in amplitude], atol=1e-9)


def test_noise_from_another_folder_or_synthesised(raw, tmp_path):
    noises = corpora.ms_snsd(tmp_path / "snsd", speech=2) / "noise_train"
    fs = gsc.prepare(raw, tmp_path / "a", words=["two"], per_word="all", noise="high", noise_raw=noises, workers=0)
    assert set(fs.factors.noise) <= {*corpora.NOISE_TYPES, "Cafe"} and fs.factors.noise.nunique() > 3
    assert fs.card["parameters"]["noise_source"] == "noise_raw"
    bare = corpora.speech_commands(tmp_path / "bare", words=("zero", "one", "two"), repeats=1)
    for path in (bare / "_background_noise_").iterdir():
        path.unlink()
    (bare / "_background_noise_").rmdir()
    fs = gsc.prepare(bare, tmp_path / "b", words=["two"], per_word="all", noise="high", workers=0)
    from atlab.data.noise import KINDS

    assert set(fs.factors.noise) <= set(KINDS)
    assert fs.card["parameters"]["noise_source"] == "synthesised"


@pytest.mark.parametrize("how", ["truncated", "zero-length", "text", "no samples"])
def test_a_broken_file_is_skipped_and_counted(tmp_path, how, capsys):
    raw = corpora.speech_commands(tmp_path / "raw", words=("zero", "one", "two"), repeats=6)
    corpora.damage(raw / "one/004ae714_nohash_0.wav", how)
    fs = gsc.prepare(raw, tmp_path / "out", words=WORDS, per_word="all", workers=0)
    assert len(fs) == 3 * 36 and "one/004ae714_nohash_0" not in set(fs.factors.id)
    assert "004ae714_nohash_0.wav" in "".join(capsys.readouterr())
    assert sum(fs.card["dropped"].values()) == 3  # silent, unnamed, broken


def test_stereo_24_bit_and_other_rates_are_read(tmp_path):
    raw = corpora.speech_commands(tmp_path / "raw", words=("zero", "one", "two"), repeats=1)
    wave = corpora.sound(1.0, seed=5)
    corpora.write(raw / "two/004ae714_nohash_0.wav", np.stack([wave, wave], axis=1), subtype="PCM_24")
    corpora.write(raw / "two/0a2b400e_nohash_0.wav", corpora.sound(1.0, seed=5, rate=48_000), 48_000)
    fs = gsc.prepare(raw, tmp_path / "out", words=["two"], per_word="all", workers=0)
    stereo, resampled = (fs.read(np.flatnonzero(fs.factors.speaker == s))[0] for s in ("004ae714", "0a2b400e"))
    np.testing.assert_allclose(stereo / 32768, wave, atol=2e-4)
    np.testing.assert_allclose(resampled[200:-200] / 32768, wave[200:-200], atol=0.01)


def test_errors_name_what_is_missing(raw, tmp_path):
    with pytest.raises(AtlabError, match="Speech Commands folder not found: expected .*nowhere"):
        gsc.prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(AtlabError, match="folder of the word 'three' not found: expected .*three"):
        gsc.prepare(raw, tmp_path / "out", words=["three"])
    with pytest.raises(AtlabError, match="unknown word 'zeroo'; nearest: 'zero'"):
        gsc.prepare(raw, tmp_path / "out", words=["zeroo"])
    with pytest.raises(AtlabError, match="unknown noise level 'hihg'; nearest: 'high'"):
        gsc.prepare(raw, tmp_path / "out", noise="hihg")
    with pytest.raises(AtlabError, match='noise_raw is given but noise="none"'):
        gsc.prepare(raw, tmp_path / "out", noise_raw=tmp_path)
    with pytest.raises(AtlabError, match="per_word is 0"):
        gsc.prepare(raw, tmp_path / "out", per_word=0)
    with pytest.raises(AtlabError, match="noise folder not found: expected .*nowhere"):
        gsc.prepare(raw, tmp_path / "out", words=WORDS, noise="low", noise_raw=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(AtlabError, match="no noise recording"):
        gsc.prepare(raw, tmp_path / "out", words=WORDS, noise="low", noise_raw=tmp_path / "empty")
    corpora.speech_commands(tmp_path / "raw", words=("zero", "one", "two"), repeats=1)
    (tmp_path / "raw/testing_list.txt").unlink()
    with pytest.raises(AtlabError, match="list of the official split not found: expected .*testing_list.txt"):
        gsc.prepare(tmp_path / "raw", tmp_path / "out", words=WORDS)
    assert not (tmp_path / "out").exists()


def test_published_counts_are_complete():
    assert sum(gsc.PUBLISHED.values()) == 105_829 and len(gsc.PUBLISHED) == 35


def test_segments_cover_every_sample():
    for samples in (1, 99, 100, 101, 149, 150, 151, 1000, 1049):
        starts = corpus.segment_starts(samples, 100, 50)
        covered = np.zeros(samples, bool)
        for start in starts:
            covered[start : start + 100] = True
        assert covered.all() and starts == sorted(set(starts))
        assert len(starts) == 1 or samples > starts[-2] + 100  # no segment without a sample of its own
