from __future__ import annotations

import numpy as np
import pytest

from atlab.data import splits
from atlab.data.build import BrokenInput
from atlab.errors import AtlabError
from data_recipes import corpus, ms_snsd
from data_recipes.audio import read_audio
from tests.recipes import corpora

HOURS = 11 * 3 * 5 / 3600  # eleven pairs of 3 fragments at five SNRs


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    return corpora.ms_snsd(tmp_path_factory.mktemp("raw") / "MS-SNSD")


@pytest.fixture(scope="module")
def fs(raw, tmp_path_factory):
    before = corpora.snapshot(raw)
    result = ms_snsd.prepare(raw, tmp_path_factory.mktemp("out") / "snsd", hours=HOURS, workers=0)
    assert corpora.snapshot(raw) == before
    return result


def test_fragments_factors_and_drops(fs):
    table = fs.factors
    pairs = table.source.nunique()
    assert len(fs) + fs.card["dropped"].get("silent", 0) == 11 * 3 * 5
    assert fs.factor_names == ["noise", "snr_db", "speech", "noise_file"]
    assert set(table.noise) <= set(corpora.NOISE_TYPES) and pairs in (10, 11)
    assert set(table.snr_db) == {0.0, 10.0, 20.0, 30.0, 40.0}
    assert (table.duration == 1.0).all() and table.id.is_unique
    assert fs.card["dropped"]["noise files of other types"] == 1
    assert fs.card["dropped"]["remainder under 1 s"] == 5 * pairs
    assert all(source == f"{a}+{b}" for source, a, b in zip(table.source, table.speech, table.noise_file, strict=True))
    assert (table.groupby("source").noise.nunique() == 1).all()
    assert fs.read([0]).shape == (1, 16_000) and fs.card["sample_rate"] == 16_000
    assert fs.card["published_clips"]["found"] == {"noise types": 11}


def test_silent_speech_is_dropped_and_counted(raw, tmp_path):
    fs = ms_snsd.prepare(raw, tmp_path / "a", hours=12 * 3 * 5 / 3600, workers=0)
    assert "clnsp12.wav" not in set(fs.factors.speech)  # all zeros
    assert fs.factors.speech.nunique() == 11 and fs.card["dropped"]["silent"] >= 15
    kept = ms_snsd.prepare(raw, tmp_path / "b", hours=12 * 3 * 5 / 3600, workers=0, silence=0)
    assert kept.card["dropped"]["silent"] == 15  # an SNR to zeros does not exist, whatever the threshold


def test_mixtures_have_the_stated_level_and_snr(raw, fs):
    """Speech re-derived from its file at -25 dBFS; what is left of the mixture is the noise."""
    table = fs.factors
    checked = 0
    for _, group in table.groupby("source"):
        for level, clips in group.groupby("snr_db"):
            if len(clips) < 3:
                continue
            order = clips.id.str.rsplit("-", n=1).str[1].astype(int).sort_values().index
            mixture = fs.read(order.to_numpy()).reshape(-1) / 32768
            wave = read_audio(raw / "clean_train" / clips.speech.iloc[0], 16_000).astype(np.float64)
            wave *= 10 ** (-25 / 20) / np.sqrt(np.mean(wave**2))
            speech, added = wave[:48_000], mixture - wave[:48_000]
            if level == 40.0 and clips.noise.iloc[0] not in ("ShuttingDoor", "Typing"):
                # noise outside the three seconds is cut off: exact only where it is stationary
                assert 10 * np.log10(np.mean(speech**2) / np.mean(added**2)) == pytest.approx(level, abs=1.0)
            assert np.sqrt(np.mean(mixture**2)) >= 10 ** (-25.5 / 20)
            checked += 1
    assert checked > 30


def test_snr_of_whole_mixtures_within_a_tenth(tmp_path):
    """Files of exactly 2 s: nothing is cut off, the measured SNR is the mixture's."""
    raw = corpora.ms_snsd(tmp_path / "raw", seconds=2.0)
    fs = ms_snsd.prepare(raw, tmp_path / "out", hours=11 * 2 * 5 / 3600, workers=0, silence=0, seed=2)
    checked = 0
    for (source, level), clips in fs.factors.groupby(["source", "snr_db"]):
        mixture = fs.read(clips.index.to_numpy()).reshape(-1) / 32768
        wave = read_audio(raw / "clean_train" / clips.speech.iloc[0], 16_000).astype(np.float64)
        wave *= 10 ** (-25 / 20) / np.sqrt(np.mean(wave**2))
        if np.abs(mixture).max() < 0.999:
            added = mixture - wave
            snr = 10 * np.log10(np.mean(wave**2) / np.mean(added**2))
            assert snr == pytest.approx(level, abs=0.1), source
            checked += 1
    assert checked >= 45


def test_a_pair_never_crosses_a_split(raw, tmp_path):
    fs = ms_snsd.prepare(raw, tmp_path / "out", hours=3 * HOURS, workers=0)  # speech is used three times
    for by, split in (
        ("source", splits.random(fs, seed=0)),
        ("source", splits.random(fs, seed=5)),
        ("noise_file", splits.disjoint(fs, by="noise_file", seed=0)),
    ):
        values = fs.factors[by].to_numpy()
        parts = [set(values[rows]) for rows in (split.train, split.validation, split.test)]
        assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])


def test_types_take_turns(raw, tmp_path):
    fs = ms_snsd.prepare(raw, tmp_path / "out", hours=3 * HOURS, workers=0, silence=0)
    pairs = fs.factors.drop_duplicates("source").noise.value_counts()
    assert len(pairs) == 11 and pairs.max() - pairs.min() <= 2
    assert fs.factors.groupby("noise").noise_file.nunique().eq(2).all()


def test_other_snrs_and_other_workers(raw, tmp_path):
    a = ms_snsd.prepare(raw, tmp_path / "a", hours=0.01, snr_db=[5], workers=0)
    b = ms_snsd.prepare(raw, tmp_path / "b", hours=0.01, snr_db=[5], workers=2)
    assert set(a.factors.snr_db) == {5.0} and a.content_hash == b.content_hash


def test_noise_excerpts_carry_sound(raw):
    door = raw / "noise_train/ShuttingDoor_1.wav"
    for seed in range(20):
        excerpt = corpus.noise_excerpt(door, 32_000, np.random.default_rng(seed))
        assert len(excerpt) == 32_000 and np.abs(excerpt).max() > 0.1
    short = corpus.noise_excerpt(raw / "noise_train/Typing_1.wav", 48_000, np.random.default_rng(0))
    assert len(short) == 48_000 and np.abs(short[-8000:]).max() > 0.1


def test_noise_of_zeros_is_counted(tmp_path):
    raw = corpora.ms_snsd(tmp_path / "raw")
    for number in (1, 2):
        corpora.write(raw / f"noise_train/Babble_{number}.wav", np.zeros(32_000))
    assert corpus.noise_excerpt(raw / "noise_train/Babble_1.wav", 8000, np.random.default_rng(0)) is None
    fs = ms_snsd.prepare(raw, tmp_path / "out", hours=2 * HOURS, workers=0)
    assert "Babble" not in set(fs.factors.noise)
    assert fs.card["dropped"]["noise recording without sound"] in (15, 30)  # the silent speech may meet one
    corpora.damage(raw / "noise_train/Babble_1.wav", "text")
    with pytest.raises(BrokenInput, match="Babble_1.wav"):
        corpus.noise_excerpt(raw / "noise_train/Babble_1.wav", 8000, np.random.default_rng(0))


def test_errors_name_what_is_missing(raw, tmp_path):
    with pytest.raises(AtlabError, match="MS-SNSD folder not found: expected .*nowhere"):
        ms_snsd.prepare(tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(AtlabError, match="noise folder not found: expected .*noise_test"):
        ms_snsd.prepare(raw, tmp_path / "out", part="test")
    with pytest.raises(AtlabError, match="unknown part 'tests'; nearest: 'test'"):
        ms_snsd.prepare(raw, tmp_path / "out", part="tests")
    with pytest.raises(AtlabError, match="hours is -1; allowed"):
        ms_snsd.prepare(raw, tmp_path / "out", hours=-1)
    with pytest.raises(AtlabError, match="snr_db is empty"):
        ms_snsd.prepare(raw, tmp_path / "out", snr_db=[])
    with pytest.raises(AtlabError, match="snr_db is nan; allowed: -60 to 60"):
        ms_snsd.prepare(raw, tmp_path / "out", snr_db=[float("nan")])
    with pytest.raises(AtlabError, match="silence is 'loud'; allowed: 0 to 1"):
        ms_snsd.prepare(raw, tmp_path / "out", silence="loud")
    with pytest.raises(AtlabError, match="MS-SNSD folder is not a folder: .*Babble_1.wav"):
        ms_snsd.prepare(raw / "noise_train/Babble_1.wav", tmp_path / "out")
    other = corpora.ms_snsd(tmp_path / "raw")
    for path in (other / "noise_train").glob("WasherDryer_*"):
        path.unlink()
    with pytest.raises(AtlabError, match="no recording of WasherDryer in .*noise_train"):
        ms_snsd.prepare(other, tmp_path / "out")
    corpora.write(other / "noise_train/WasherDryer_1.wav", corpora.sound(2.0))
    for path in (other / "clean_train").iterdir():
        path.unlink()
    with pytest.raises(AtlabError, match="no speech recording"):
        ms_snsd.prepare(other, tmp_path / "out")
    corpora.write(other / "clean_train/clnsp1.wav", corpora.sound(0.5))
    with pytest.raises(AtlabError, match="no speech file of at least 1 s"):
        ms_snsd.prepare(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()
