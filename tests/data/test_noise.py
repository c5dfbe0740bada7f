"""Noise: the measured ratio is the one asked for, families sound as they should, clips never change."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import hilbert, welch
from scipy.stats import kurtosis

from atlab.data import Clip, Noisy, build, splits
from atlab.data.noise import KINDS, active_part, mix, noise
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError
from atlab.system.processes import pool

RATE = 16_000


def decibels(signal: np.ndarray, added: np.ndarray) -> float:
    """Ratio of powers, sample by sample in Python floats."""
    powers = [sum(float(v) ** 2 for v in part) / len(part) for part in (signal, added)]
    return 10 * float(np.log10(powers[0] / powers[1]))


def share(wave: np.ndarray, low: float, high: float) -> float:
    """Part of the power between two frequencies."""
    frequency, power = welch(wave, RATE, nperseg=4096)
    return power[(frequency >= low) & (frequency < high)].sum() / power.sum()


def draw(kind: str, seed: int, samples: int = RATE, rate: int = RATE) -> np.ndarray:
    return noise(kind, np.random.default_rng(seed), samples, rate)


def convert(number: int) -> list[Clip]:
    """A tone burst inside silence, of another length and loudness each; 3 is silent, 4 at full scale."""
    wave = np.zeros(8000, np.int16)
    length, onset = 1500 + 300 * number, 200 * number
    peak = {3: 0, 4: 32767}.get(number, 900 * (number + 1))
    wave[onset : onset + length] = np.round(peak * np.sin(np.arange(length) * 0.2 + 0.5))
    row = {"id": f"clip{number}", "source": f"{number}.wav", "duration": length / RATE, "parity": number % 2}
    return [Clip(wave, row)]


@pytest.fixture(scope="module")
def bursts(tmp_path_factory):
    out = tmp_path_factory.mktemp("bursts") / "set"
    return build(out, range(12), convert, card={"sample_rate": RATE}, factors=["parity"], workers=0)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 7.5, 40.0])
def test_mix_has_the_ratio_it_was_asked_for(snr_db):
    rng = np.random.default_rng(1)
    clean, added = 0.02 * rng.standard_normal(4000), rng.uniform(-3, 3, 4000)
    mixture = mix(clean, added, snr_db)
    assert mixture.dtype == np.float32
    assert decibels(clean, mixture - clean) == pytest.approx(snr_db, abs=0.01)
    active = slice(1000, 2000)
    rest = mix(clean, added, snr_db, active) - clean
    assert decibels(clean[active], rest) == pytest.approx(snr_db, abs=0.01)


def test_a_mixture_beyond_full_scale_is_turned_down_as_a_whole():
    clean, added = 0.9 * np.sin(np.arange(4000) * 0.1), np.random.default_rng(0).standard_normal(4000)
    mixture = mix(clean, added, 3.0)
    assert np.abs(mixture).max() == pytest.approx(1.0, abs=1e-6)
    (a, b), residual, *_ = np.linalg.lstsq(np.stack([clean, added], axis=1), mixture, rcond=None)
    assert residual[0] < 1e-9 and 0 < a < 0.9  # nothing but the two, both fainter
    assert decibels(a * clean, b * added) == pytest.approx(3.0, abs=0.01)


def test_the_active_part_is_the_sound_without_what_surrounds_it():
    wave = np.concatenate([np.full(50, 0.0005), [0.0, 0.1, -0.9, 0.0, 0.0, 0.3], np.full(70, -0.0089)])
    assert active_part(wave) == slice(51, 56)
    assert active_part(np.array([0, -32768, 0], np.int16)) == slice(1, 2)  # abs of int16 would overflow
    assert active_part(np.zeros(9)) == slice(0, 0)


def test_ratios_of_clips_as_read(bursts):
    noisy = Noisy(bursts, snr_db=(0, 20), seed=2)
    clips, clean = noisy.read(range(12)).astype(int), bursts.read(range(12)).astype(int)
    checked = 0
    for row in set(range(12)) - {3} - noisy.turned_down:
        sound = np.flatnonzero(np.abs(clean[row]) >= 0.01 * np.abs(clean[row]).max())
        first, last = sound[0], sound[-1]
        ratio = decibels(clean[row][first : last + 1], clips[row] - clean[row])
        assert ratio == pytest.approx(noisy.factors.snr_db[row], abs=0.1), row
        checked += 1
    assert checked >= 8


def test_clips_that_would_clip_are_counted_and_keep_their_ratio(bursts):
    noisy = Noisy(bursts, snr_db=(0, 0), kinds=["white"])
    assert noisy.turned_down == set()
    mixture, clean = noisy.read([4, 0])[0].astype(float), bursts.read([4])[0].astype(float)
    assert noisy.turned_down == {4}
    assert np.abs(mixture).max() >= 32766 and (np.abs(mixture) >= 32766).sum() == 1  # a peak, no plateau
    gain = mixture @ clean / (clean @ clean)  # white noise is nearly orthogonal to the tone
    assert 0.2 < gain < 0.8
    assert decibels(clean[active_part(clean)] * gain, mixture - gain * clean) == pytest.approx(0, abs=1)


def test_silence_stays(bursts):
    assert not Noisy(bursts).read([3]).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("samples", "rate"), [(16_000, 16_000), (5000, 8000), (44_100, 44_100), (40, 16_000)])
def test_unit_rms_and_nothing_but_the_generator_decides(kind, samples, rate):
    wave = draw(kind, 3, samples, rate)
    assert wave.shape == (samples,) and wave.dtype == np.float32
    assert np.sqrt(np.mean(wave.astype(np.float64) ** 2)) == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(wave, draw(kind, 3, samples, rate))
    assert not np.array_equal(wave, draw(kind, 4, samples, rate))


@pytest.mark.parametrize(("kind", "low", "high"), [("white", -0.4, 0.5), ("pink", 0.7, 1.6)])
def test_slopes_of_white_and_pink(kind, low, high):
    for seed in range(5):
        frequency, power = welch(draw(kind, seed, 8 * RATE), RATE, nperseg=2048)
        inner = (frequency > 50) & (frequency < 7000)
        slope = -np.polyfit(np.log(frequency[inner]), np.log(power[inner]), 1)[0]
        assert low < slope < high


def test_each_family_sounds_as_its_name_says():
    for seed in range(5):
        wave = {kind: draw(kind, seed, 4 * RATE) for kind in KINDS}
        assert share(wave["air_conditioner"], 0, 1000) > 0.8
        spectrum, hertz = np.abs(np.fft.rfft(wave["hum"])) ** 2, np.fft.rfftfreq(4 * RATE, 1 / RATE)
        mains = hertz[:280][np.argmax(spectrum[:280])]  # below 70 Hz
        harmonic = np.abs((hertz / mains + 0.5) % 1 - 0.5) < 0.02
        assert 49 < mains < 61 and spectrum[harmonic].sum() / spectrum.sum() > 0.7
        assert kurtosis(wave["typing"]) > 10 and share(wave["typing"], 1000, 8000) > 0.9
        assert share(wave["engine"], 0, 1800) > 0.9
        assert share(wave["siren"], 350, 5200) > 0.95
        assert share(wave["babble"], 150, 4500) > 0.9
        envelope = np.abs(hilbert(wave["babble"].astype(float)))
        rhythm = np.abs(np.fft.rfft(envelope - envelope.mean())) ** 2
        rate = np.fft.rfftfreq(len(envelope), 1 / RATE)
        assert rhythm[rate < 12].sum() / rhythm[rate < 60].sum() > 0.4


def test_families_can_be_told_apart():
    """Nearest mean of coarse log spectra and of peakedness, on noise that the means have not seen."""

    def features(wave: np.ndarray) -> np.ndarray:
        _, power = welch(wave, RATE, nperseg=512)
        return np.append(np.log10(np.add.reduceat(power, np.arange(0, 257, 16)) + 1e-9), kurtosis(wave) / 10)

    means = [np.mean([features(draw(kind, seed)) for seed in range(20)], axis=0) for kind in KINDS]
    right = [
        np.argmin([np.linalg.norm(features(draw(kind, seed)) - mean) for mean in means]) == number
        for number, kind in enumerate(KINDS)
        for seed in range(100, 110)
    ]
    assert np.mean(right) > 0.75


def _read(folder, rows):
    from atlab.data import FactorSet

    return Noisy(FactorSet.open(folder), seed=7).read(rows)


def test_a_clip_is_the_same_in_any_batch_and_process(bursts):
    noisy = Noisy(bursts, seed=7)
    whole = noisy.read(range(12))
    for rows in ([5], [11, 5, 0], [5, 5], np.array([7, 2])):
        np.testing.assert_array_equal(noisy.read(rows), whole[np.asarray(rows)])
    assert noisy.read([]).shape == (0, 8000)
    with pool(1) as processes:
        np.testing.assert_array_equal(processes.submit(_read, bursts.path, [9, 1]).result(), whole[[9, 1]])
    assert len({wave.tobytes() for wave in whole}) == 12
    np.testing.assert_array_equal(bursts.read([5]), convert(5)[0].array[None])  # the files stay clean


def test_the_view_is_a_data_set(tmp_path):
    from atlab.data.loaders import Batches  # here: the process that reads clips does without torch

    fs = toy(tmp_path / "toy", words=4, speakers=4, repetitions=5)
    noisy = Noisy(fs, snr_db=(5, 15), kinds=KINDS)
    assert (len(noisy), noisy.kind, noisy.sample_rate, noisy.path) == (80, "audio", 16_000, fs.path)
    assert noisy.factor_names == ["word", "speaker", "noise"] and noisy.card["factors"]["noise"] == 8
    assert list(fs.factors.columns) == [c for c in noisy.factors.columns if c not in ("noise", "snr_db")]
    assert noisy.factors["noise"].value_counts().eq(10).all()
    assert noisy.factors.snr_db.between(5, 15).all() and noisy.factors.snr_db.nunique() > 40
    assert noisy.classes("noise") == sorted(KINDS) and set(noisy.codes("noise")) == set(range(8))
    assert (noisy.labels("word") == fs.labels("word")).all()
    split = splits.random(noisy, seed=0)
    split.check(noisy, "noise")
    batch = next(iter(Batches(noisy, split.train, noisy.codes("noise"), batch_size=4).epoch(0)))
    assert batch.x.shape == (4, 1, 32, 129)
    split.save(tmp_path / "split.json", noisy)
    for view in (fs, noisy, Noisy(fs, snr_db=(0, 1))):  # the clips are the same, whatever is added to them
        assert (splits.Split.load(tmp_path / "split.json", view).test == split.test).all()


def test_batches_and_cached_targets_are_those_of_the_noisy_clips(tmp_path, monkeypatch):
    import torch

    import atlab
    from atlab.data import Spectrogram, loaders

    fs = toy(tmp_path / "toy")
    noisy, rows = Noisy(fs, seed=4), np.arange(0, 80, 9)
    clean, resident = (loaders.Batches(view, rows, fs.codes("word"), batch_size=4) for view in (fs, noisy))
    monkeypatch.setattr(loaders, "RESIDENT_BYTES", 0)
    mapped = loaders.Batches(noisy, rows, noisy.codes("word"), batch_size=4)
    assert (resident._resident is None, mapped._resident is None) == (False, True)
    for held, read, plain in zip(resident.epoch(0), mapped.epoch(0), clean.epoch(0), strict=True):
        mixed = Spectrogram()(torch.from_numpy(noisy.read(held.index.numpy())))
        assert torch.equal(held.x, mixed) and torch.equal(read.x, mixed)
        assert torch.equal(held.y, plain.y) and not torch.equal(held.x, plain.x)
    teacher = atlab.Teacher(atlab.models.vgg16(num_classes=4, width=1 / 16), layers="conv5")
    parts = (("n", mapped), ("c", clean))
    caches = [atlab.CachedTeacher(teacher, part, tmp_path / name) for name, part in parts]
    index = torch.from_numpy(rows[:2])
    noisy_targets, clean_targets = (cache.targets(index=index)["conv5"] for cache in caches)
    assert not torch.equal(noisy_targets, clean_targets)
    with pytest.raises(AtlabError, match="is the cache of another data"):
        atlab.CachedTeacher(teacher, clean, tmp_path / "n")


def test_the_hash_tells_views_apart(bursts, tmp_path):
    same = [Noisy(bursts, (0, 10), KINDS, 0).content_hash for _ in range(2)]
    other = [
        Noisy(bursts, (0, 9)),
        Noisy(bursts, kinds=["white", "pink"]),
        Noisy(bursts, kinds="pink"),
        Noisy(bursts, seed=1),
        Noisy(toy(tmp_path / "toy")),
    ]
    table = Noisy(bursts).factors
    by_numpy = Noisy(bursts, np.array([0.0, 10.0]), np.array(KINDS), np.int64(0))
    assert by_numpy.content_hash == same[0] and by_numpy.factors.equals(table)
    assert same[0] == same[1] and len({same[0], bursts.content_hash, *(fs.content_hash for fs in other)}) == 7
    assert not np.array_equal(Noisy(bursts).read([5]), Noisy(bursts, seed=1).read([5]))


def test_kinds_and_ratios_tell_nothing_of_the_other_factors(tmp_path):
    fs = toy(tmp_path / "toy", words=2, speakers=2, repetitions=200, samples=10)
    noisy = Noisy(fs, kinds=["white", "hum"])
    table = noisy.factors.groupby(["word", "noise"]).size()
    assert table.between(160, 240).all()
    assert abs(np.corrcoef(noisy.factors.snr_db, noisy.codes("speaker"))[0, 1]) < 0.12


def image(number: int) -> list[Clip]:
    row = {"id": str(number), "source": str(number), "duration": 0.0, "digit": number}
    return [Clip(np.zeros((1, 4, 4), np.uint8), row)]


def test_errors(bursts, tmp_path):
    flat, one = np.zeros(8), np.ones(8)
    with pytest.raises(AtlabError, match=r"of one length, found \(8,\) and \(9,\)"):
        mix(one, np.ones(9), 0)
    with pytest.raises(AtlabError, match="sound is silent"):
        mix(flat, one, 0)
    with pytest.raises(AtlabError, match="noise is silent"):
        mix(one, flat, 0)
    with pytest.raises(AtlabError, match="unknown noise 'bable'; nearest: 'babble'"):
        noise("bable", np.random.default_rng(0), 100)
    for samples, rate in ((0, 16_000), (100, 4000)):
        with pytest.raises(AtlabError, match=f"found {samples} and {rate}"):
            noise("white", np.random.default_rng(0), samples, rate)
    with pytest.raises(AtlabError, match="unknown noise 'whit'; nearest: 'white'"):
        Noisy(bursts, kinds=["hum", "whit"])
    with pytest.raises(AtlabError, match=r"at least one kind; found audio and 0 kinds"):
        Noisy(bursts, kinds=[])
    for wrong in ((10, 0), (0, float("nan")), (0, 1e9), 5, "low", (1, 2, 3)):
        with pytest.raises(AtlabError, match="snr_db is .low, high. in dB"):
            Noisy(bursts, snr_db=wrong)
    for wrong in (-1, 1.5, "0"):
        with pytest.raises(AtlabError, match=f"seed is a whole number from 0 on, found {wrong!r}"):
            Noisy(bursts, seed=wrong)
    with pytest.raises(AtlabError, match=r"columns \['noise', 'snr_db'\] already"):
        Noisy(Noisy(bursts))
    images = build(tmp_path / "i", range(2), image, card={"sample_rate": None}, factors=["digit"], workers=0)
    with pytest.raises(AtlabError, match="needs a data set of audio.*found image"):
        Noisy(images)
    with pytest.raises(AtlabError, match="rows must lie in 0..11"):
        Noisy(bursts).read([12])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Recordings of rain (long), clicks (shorter than a clip) and a kind that is silent."""
    waves = {
        "rain": np.random.default_rng(0).normal(0, 3000, 8000),
        "click": np.random.default_rng(1).normal(0, 9000, 8000) * (np.arange(8000) < 900),
        "silence": np.zeros(8000),
    }
    items = [(kind, take) for kind in waves for take in range(3)]

    def convert(item):
        kind, take = item
        name = f"{kind}{take}"
        row = {"id": name, "source": name, "duration": 0.5, "noise": kind}
        return [Clip(np.roll(waves[kind], take).astype(np.int16), row)]

    card = {"name": "street", "sample_rate": 16000, "licence": "-", "recipe": "test", "recipe_version": 1, "seed": 0}
    folder = tmp_path_factory.mktemp("recorded") / "street"
    return build(folder, items, convert, card=card | {"parameters": {}}, factors=["noise"], workers=0)


def test_recorded_noise_has_the_ratio_that_the_table_says(bursts, recorded):
    clean = bursts
    noisy = Noisy(clean, snr_db=(0, 10), kinds=["rain"], recorded=recorded)
    assert noisy.classes("noise") == ["rain"] and noisy.content_hash != Noisy(clean, snr_db=(0, 10)).content_hash
    rows = [0, 5, 11]
    for row, sound, mixture in zip(rows, clean.read(rows) / 32768, noisy.read(rows) / 32768, strict=True):
        if row in noisy.turned_down:
            continue
        active = active_part((sound * 32768).astype(np.int16))
        added = mixture - sound
        ratio = 10 * np.log10(np.mean(sound[active] ** 2) / np.mean(added**2))
        assert ratio == pytest.approx(noisy.factors["snr_db"][row], abs=0.1)
    assert (noisy.read(rows) == noisy.read(rows)).all()


def test_silent_recordings_and_other_rates_are_refused(bursts, recorded):
    with pytest.raises(AtlabError, match="recordings of noise 'silence' were silent from end to end"):
        Noisy(bursts, kinds=["silence"], recorded=recorded).read([0])
    with pytest.raises(AtlabError, match="unknown noise 'hum'"):
        Noisy(bursts, kinds=["hum"], recorded=recorded)
    with pytest.raises(AtlabError, match="recorded noise must be audio at 16000 samples a second like the clips"):
        slow = type(recorded)(recorded.path, recorded.card | {"sample_rate": 8000}, recorded.factors, recorded.inputs)
        Noisy(bursts, recorded=slow)
    with pytest.raises(AtlabError, match="unknown factor 'noise'"):
        Noisy(bursts, recorded=bursts)


def test_a_recording_that_is_silent_but_for_a_slam_is_heard_at_the_slam(bursts, tmp_path):
    """Ten random stretches of such a recording are silent more often than not."""
    wave = np.zeros(400_000, np.int16)
    wave[300_000:300_400] = np.random.default_rng(0).normal(0, 9000, 400)
    row = {"id": "door", "source": "door", "duration": 25.0, "noise": "door"}
    card = {"name": "doors", "sample_rate": 16000}
    doors = build(tmp_path / "doors", [0], lambda item: [Clip(wave, row)], card=card, factors=["noise"], workers=0)
    noisy, rows = Noisy(bursts, snr_db=(20, 20), recorded=doors), [0, 5, 11]
    for sound, mixture in zip(bursts.read(rows) / 32768, noisy.read(rows) / 32768, strict=True):
        added = mixture - sound
        assert np.mean(sound[active_part((sound * 32768).astype(np.int16))] ** 2) == pytest.approx(
            100 * np.mean(added**2), rel=0.05
        )
