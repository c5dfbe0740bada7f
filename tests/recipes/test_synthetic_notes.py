"""The SoundFont reader against a sound font made here, faults against their claims, the FactorSet in full."""

from __future__ import annotations

import struct
from itertools import product

import numpy as np
import pytest

from atlab.data.synthetic import notes
from atlab.data.synthetic.soundfont import SoundFont, general_midi, general_midi_path
from atlab.errors import AtlabError

RATE = 48_000
PERIOD = 480  # samples of the looped sine: 100 Hz


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def write_sound_font(path, zone: list[tuple[int, int]] = (), preset: list[tuple[int, int]] = ()):
    """One preset "Sine" with one instrument and one sample of five periods, of which three are looped."""
    wave = 0.5 * np.sin(2 * np.pi * np.arange(5 * PERIOD) / PERIOD)
    start, end = PERIOD, 4 * PERIOD
    sample = struct.pack("<20sIIIIIBbHH", b"sine", 0, len(wave), start, end, RATE, 60, 0, 0, 1)
    generators = [*zone, (53, 0)]
    presets = [*preset, (41, 0)]
    parts = {
        b"phdr": struct.pack("<20sHHHIII", b"Sine", 5, 0, 0, 0, 0, 0)
        + struct.pack("<20sHHHIII", b"EOP", 0, 0, 1, 0, 0, 0),
        b"pbag": struct.pack("<4H", 0, 0, len(presets), 0),
        b"pmod": bytes(10),
        b"pgen": b"".join(struct.pack("<Hh", *g) for g in presets) + bytes(4),
        b"inst": struct.pack("<20sH", b"Sine", 0) + struct.pack("<20sH", b"EOI", 1),
        b"ibag": struct.pack("<4H", 0, 0, len(generators), 0),
        b"imod": bytes(10),
        b"igen": b"".join(struct.pack("<Hh", *g) for g in generators) + bytes(4),
        b"shdr": sample + struct.pack("<20sIIIIIBbHH", b"EOS", 0, 0, 0, 0, 0, 0, 0, 0, 0),
    }
    body = (
        b"sfbk"
        + _chunk(b"LIST", b"INFO" + _chunk(b"ifil", struct.pack("<HH", 2, 1)))
        + _chunk(b"LIST", b"sdta" + _chunk(b"smpl", np.round(wave * 32767).astype("<i2").tobytes()))
        + _chunk(b"LIST", b"pdta" + b"".join(_chunk(name, data) for name, data in parts.items()))
    )
    path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    return path


def sine(hertz: float, samples: int = 16_000) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(samples) / 16_000)


MIDDLE = slice(1000, 12_000)  # past the onset, before the key is released at 0.8 s


@pytest.mark.parametrize(("key", "hertz"), [(60, 100), (72, 200), (48, 50)])
def test_a_looped_sine_comes_back_at_the_pitch_of_its_key(tmp_path, key, hertz):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(54, 1)]))
    sound = font.note(5, key, 127)
    assert font.presets == {(0, 5): "Sine"} and sound.shape == (16_000,) and sound.dtype == np.float32
    np.testing.assert_allclose(sound[MIDDLE], sine(hertz)[MIDDLE], atol=2e-4)


def test_without_a_loop_the_sample_ends(tmp_path):
    sound = SoundFont(write_sound_font(tmp_path / "a.sf2")).note(5, 60, 127)
    assert np.abs(sound[100:750]).max() > 0.4 and np.abs(sound[850:]).max() < 1e-3


@pytest.mark.parametrize(("zone", "cents"), [([(51, 1)], 100), ([(52, -50)], -50), ([(58, 48)], 1200), ([(56, 0)], 0)])
def test_coarse_and_fine_tuning_root_key_and_scale(tmp_path, zone, cents):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(54, 1), *zone]))
    key = 65 if zone[0][0] == 56 else 60
    np.testing.assert_allclose(font.note(5, key, 127)[MIDDLE], sine(100 * 2 ** (cents / 1200))[MIDDLE], atol=5e-4)


def test_detuning_within_the_note_integrates_to_the_phase(tmp_path):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(54, 1)]))
    octaves = np.arange(16_000) / 16_000
    cents = 1200 * octaves
    phase = 100 * (2**octaves - 1) / np.log(2)  # the integral of 100 Hz * 2**t over one second
    np.testing.assert_allclose(
        font.note(5, 60, 127, cents=cents)[MIDDLE], 0.5 * np.sin(2 * np.pi * phase)[MIDDLE], atol=5e-3
    )


def test_velocity_attenuation_and_release_follow_their_formulas(tmp_path):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(54, 1), (48, 100), (38, 0)], preset=[(48, 50)]))
    loud, soft = font.note(5, 60, 127, held=0.5), font.note(5, 60, 64, held=0.5)
    assert np.abs(loud[2000:7000]).max() == pytest.approx(0.5 * 10 ** (-0.4 * 15 / 20), rel=1e-3)
    assert np.abs(soft[2000:7000]).max() == pytest.approx(np.abs(loud[2000:7000]).max() * (64 / 127) ** 2, rel=2e-3)
    level = [20 * np.log10(np.abs(loud[a : a + 800]).max()) for a in (8800, 12_000)]
    assert level[0] - level[1] == pytest.approx(100 * 3200 / 16_000, abs=0.1)  # 100 dB in a release of 1 s


def test_envelope_attack_decay_and_sustain(tmp_path):
    seconds = {"attack": -1200, "decay": 0}  # 0.5 s and 1 s, in timecents
    font = SoundFont(
        write_sound_font(tmp_path / "a.sf2", [(54, 1), (34, seconds["attack"]), (36, seconds["decay"]), (37, 120)])
    )
    sound = font.note(5, 60, 127, seconds=1.0, held=1.0)
    peaks = np.abs(sound).reshape(-1, 160).max(axis=1)  # one per period of 10 ms
    middle = (np.arange(100) + 0.5) / 100
    np.testing.assert_allclose(peaks[5:48], 0.5 * middle[5:48] / 0.5, atol=0.012)
    assert peaks[-10:].max() == pytest.approx(0.5 * 10 ** (-12 / 20), rel=0.01)


def test_the_low_pass_takes_a_high_note_down(tmp_path):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(54, 1), (8, 6000)]))  # 8.176 Hz * 2**5 = 262 Hz
    high = np.abs(font.note(5, 108, 127)[MIDDLE]).max()  # 1600 Hz
    assert high == pytest.approx(0.5 * (261.6 / 1600) ** 2, rel=0.1)  # 12 dB an octave
    assert np.abs(font.note(5, 48, 127)[MIDDLE]).max() == pytest.approx(0.5, rel=0.02)


def test_key_and_velocity_ranges_of_zone_and_preset(tmp_path):
    font = SoundFont(write_sound_font(tmp_path / "a.sf2", [(43, 80 << 8 | 50), (54, 1)], preset=[(44, 100 << 8 | 20)]))
    assert [
        len(font.regions(5, key, velocity))
        for key, velocity in [(49, 60), (50, 60), (80, 100), (81, 60), (60, 19), (60, 101)]
    ] == [0, 1, 1, 0, 0, 0]
    assert not font.note(5, 49, 60).any()


def test_the_sound_font_plays_every_instrument_in_tune():
    for name, (program, low, high) in notes.INSTRUMENTS.items():
        key = next(k for k in range((low + high) // 2, high) if general_midi().regions(program, k, 100))
        tone = general_midi().note(program, key, 100)[2000:12_000].astype(np.float64)
        spectrum = np.abs(np.fft.rfft(tone * np.hanning(len(tone)), 2**17))
        hertz = 440 * 2 ** ((key - 69) / 12)
        window = {
            cents: sum(
                spectrum[round(h * hertz * 2 ** (cents / 1200) * 2**17 / 16_000)]
                for h in range(1, 6)
                if h * hertz < 7000
            )
            for cents in range(-300, 301, 5)
        }
        assert abs(max(window, key=window.get)) <= 50, name


def test_broken_and_foreign_sound_fonts(tmp_path):
    with pytest.raises(AtlabError, match="no sound font at"):
        SoundFont(tmp_path / "none.sf2")
    (tmp_path / "text.sf2").write_text("hello")
    with pytest.raises(AtlabError, match="is not a SoundFont 2 file"):
        SoundFont(tmp_path / "text.sf2")
    whole = write_sound_font(tmp_path / "a.sf2").read_bytes()
    for cut in (100, len(whole) // 2, len(whole) - 60):
        (tmp_path / "cut.sf2").write_bytes(whole[:cut])
        with pytest.raises(AtlabError, match="broken SoundFont 2"):
            SoundFont(tmp_path / "cut.sf2")
    with pytest.raises(AtlabError, match="no program 9 in bank 0"):
        SoundFont(tmp_path / "a.sf2").note(9, 60, 100)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(AtlabError, match="install pretty_midi==0.2.11"):
        general_midi_path()


def _pair(goodness: str, seed: int, instrument: str = "clarinet", pitch: int = 60):
    """The same note well and badly played (the generators differ only after the shared draws)."""
    return [
        notes.play(general_midi(), instrument, pitch, 100, grade, np.random.default_rng(seed))
        for grade in ("good-sound", goodness)
    ]


def _envelope(sound: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(sound[1600:11_200].reshape(-1, 800) ** 2, axis=1))


def test_bad_dynamics_swing_more_than_good_ones():
    for seed in range(8):
        (good, tag), (bad, bad_tag) = _pair("bad-dynamics", seed)
        swing = [np.ptp(20 * np.log10(_envelope(s))) for s in (good, bad)]
        assert (tag, bad_tag) == ("good-sound", "bad-dynamics-stability") and swing[1] > swing[0] + 3


def _course(sound: np.ndarray, hertz: float) -> np.ndarray:
    """Deviation of the fundamental in cents over 0.15..0.65 s, by its phase after demodulation."""
    time = np.arange(len(sound)) / 16_000
    base = np.convolve(sound * np.exp(-2j * np.pi * hertz * time), np.hanning(800), "same")
    change = np.gradient(np.unwrap(np.angle(base))) * 16_000 / (2 * np.pi)
    return 1200 * np.log2(1 + change[2400:10_400] / hertz)


def test_bad_pitch_strays_more_than_good_pitch():
    tags = set()
    for seed in range(8):
        (good, _), (bad, tag) = _pair("bad-pitch", seed)
        tags.add(tag)
        stray = [np.ptp(_course(s, 440 * 2 ** ((60 - 69) / 12))) for s in (good, bad)]
        assert stray[1] > stray[0] + 10
    assert tags == {"bad-pitch-stability", "bad-pitch-drift"}


def test_bad_attacks_change_the_onset_and_bad_timbre_the_spectrum():
    attacks, timbres = {}, {}
    for seed in range(24):
        (good, _), (bad, tag) = _pair("bad-attack", seed)
        attacks.setdefault(tag, []).append(
            [np.sqrt(np.mean(s[800:2400] ** 2)) / np.sqrt(np.mean(s[8000:10_000] ** 2)) for s in (good, bad)]
        )
        (good, _), (bad, tag) = _pair("bad-timbre", seed)
        spectra = [np.abs(np.fft.rfft(s[3000:11_000])) ** 2 for s in (good, bad)]
        frequency = np.fft.rfftfreq(8000, 1 / 16_000)
        timbres.setdefault(tag, []).append([(s * frequency).sum() / s.sum() for s in spectra])
    assert set(attacks) == {"bad-attack-scoop", "bad-attack-smear", "bad-attack-crack"}
    for tag in ("bad-attack-smear", "bad-attack-crack"):
        assert all(bad < 0.9 * good for good, bad in attacks[tag])
    assert set(timbres) == {"bad-timbre-dull", "bad-timbre-harsh", "bad-timbre-airy"}
    assert all(bad < good for good, bad in timbres["bad-timbre-dull"])
    assert all(bad > good for good, bad in timbres["bad-timbre-airy"])


def test_every_note_is_audible_and_within_full_scale():
    for instrument, goodness in product(notes.INSTRUMENTS, notes.GOODNESS):
        rng = np.random.default_rng(1)
        pitch, velocity = notes.draw_note(general_midi(), instrument, rng)
        sound, _ = notes.play(general_midi(), instrument, pitch, velocity, goodness, rng)
        assert sound.shape == (16_000,) and np.isfinite(sound).all() and 0.08 < np.abs(sound).max() < 1


def test_pitches_that_the_sound_font_cannot_play_are_never_drawn():
    drawn = {notes.draw_note(general_midi(), "sax_alto", np.random.default_rng(seed))[0] for seed in range(300)}
    assert drawn == set(range(49, 78)) - {64}  # its alto sax has no sample for key 64


def test_the_factor_set_in_full(tmp_path):
    from data_recipes import synthetic_notes

    fs = synthetic_notes.prepare(None, tmp_path / "a", instruments=3, goodness=5, repetitions=2, workers=0)
    table = fs.factors
    assert len(fs) == 30 and fs.kind == "audio" and fs.sample_rate == 16_000
    assert fs.read(np.arange(30)).shape == (30, 16_000) and fs.read([0]).dtype == np.int16
    assert table["id"].is_unique and (table["source"] == table["id"]).all() and (table["duration"] == 1.0).all()
    assert set(fs.factor_names) == set(synthetic_notes.FACTORS)
    assert fs.classes("instrument") == sorted(["flute", "cello", "clarinet"])
    assert set(fs.classes("goodness")) == set(notes.GOODNESS)
    assert (table.groupby(["instrument", "goodness"]).size() == 2).all()
    # matched: the goodness classes of one instrument and repetition share pitch and velocity
    assert (table.groupby(["instrument", "repetition"])[["pitch", "velocity"]].nunique() == 1).all(axis=None)
    assert set(table["velocity"]) <= set(notes.VELOCITIES)
    for name, (_, low, high) in list(notes.INSTRUMENTS.items())[:3]:
        assert table.loc[table["instrument"] == name, "pitch"].between(low, high).all()
    assert fs.card["parameters"]["sound_font"] == "TimGM6mb.sf2" and fs.card["dropped"] == {}


def test_the_same_seed_gives_the_same_bytes_and_a_subset_its_part(tmp_path):
    one = notes.synthetic_notes(tmp_path / "a", instruments=2, goodness=2, repetitions=2, workers=0)
    two = notes.synthetic_notes(tmp_path / "b", instruments=2, goodness=2, repetitions=2, workers=2)
    assert one.content_hash == two.content_hash
    other = notes.synthetic_notes(tmp_path / "c", instruments=2, goodness=2, repetitions=2, seed=1, workers=0)
    assert one.content_hash != other.content_hash
    small = notes.synthetic_notes(tmp_path / "d", instruments=1, goodness=2, repetitions=2, workers=0)
    np.testing.assert_array_equal(small.read(range(4)), one.read(range(4)))


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [("instruments", 13, "1 to 12"), ("goodness", 0, "1 to 5"), ("repetitions", 0, "1 to 100000")],
)
def test_numbers_out_of_range(tmp_path, option, value, allowed):
    with pytest.raises(AtlabError, match=f"{option}={value}: allowed are {allowed}"):
        notes.synthetic_notes(tmp_path / "a", **{option: value})
    assert not (tmp_path / "a").exists()


def test_instruments_can_be_held_out(tmp_path):
    from atlab.data import splits

    fs = notes.synthetic_notes(tmp_path / "a", instruments=6, goodness=2, repetitions=2, workers=0)
    split = splits.disjoint(fs, "instrument", test=["trumpet"], seed=0)
    sides = [set(fs.labels("instrument", rows)) for rows in (split.train, split.validation, split.test)]
    assert sides[2] == {"trumpet"} and not sides[0] & sides[1] and "trumpet" not in sides[0] | sides[1]
