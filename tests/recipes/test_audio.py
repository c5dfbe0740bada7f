"""Sound files of every kind become float32 mono at one rate; spoiled ones are named, not read in part."""

from __future__ import annotations

import os

import numpy as np
import pytest
import scipy.signal
import soundfile

from atlab.data import BrokenInput
from atlab.errors import AtlabError
from data_recipes import corpus
from data_recipes.audio import fit_length, read_audio, resample, to_int16
from data_recipes.images import read_image

from . import corpora

KINDS = {
    "wav": ("a.wav", "PCM_16", 1 / 32768),
    "24-bit wav": ("a.wav", "PCM_24", 1e-6),
    "8-bit wav": ("a.wav", "PCM_U8", 1 / 128),
    "float wav": ("a.wav", "FLOAT", 1e-6),
    "flac": ("a.flac", "PCM_16", 1 / 32768),
    "24-bit flac": ("a.flac", "PCM_24", 1e-6),
    "aiff": ("a.aiff", "PCM_16", 1 / 32768),
    "sphere": ("a.nist", "PCM_16", 1 / 32768),
    "non-ASCII path": ("été – 音.wav", "PCM_16", 1 / 32768),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_kinds_of_files(tmp_path, kind, channels):
    name, subtype, tolerance = KINDS[kind]
    wave = np.stack([corpora.sound(0.3, seed=n) for n in range(channels)], axis=1)
    soundfile.write(tmp_path / name, wave, 16_000, subtype=subtype)
    got = read_audio(tmp_path / name)
    assert got.shape == (4800,) and got.dtype == np.float32
    np.testing.assert_allclose(got, wave.mean(axis=1), atol=tolerance)


def test_sphere_as_timit_has_it(tmp_path):
    wave = corpora.sound(0.2)
    np.testing.assert_allclose(read_audio(corpora.write_sphere(tmp_path / "SA1.WAV", wave)), wave, atol=1 / 32767)


@pytest.mark.parametrize("kind", ["wav", "24-bit wav", "float wav", "flac", "aiff", "sphere"])
@pytest.mark.parametrize("keep", [0.9, 0.5])
def test_truncated_files_are_broken(tmp_path, kind, keep):
    path = tmp_path / KINDS[kind][0]
    soundfile.write(path, corpora.sound(0.5), 16_000, subtype=KINDS[kind][1])
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(BrokenInput, match=path.name):
        read_audio(path)


@pytest.mark.parametrize("how", ["truncated", "zero-length", "text", "no samples"])
def test_spoiled_files_are_broken(tmp_path, how):
    path = corpora.write(tmp_path / "a.wav", corpora.sound(0.1))
    corpora.damage(path, how)
    with pytest.raises(BrokenInput, match="a.wav"):
        read_audio(path)


def test_missing_files_and_values_that_are_no_numbers_are_broken(tmp_path):
    with pytest.raises(BrokenInput, match="none.wav"):
        read_audio(tmp_path / "none.wav")
    soundfile.write(tmp_path / "a.wav", np.array([0.0, np.nan, 0.1]), 16_000, subtype="FLOAT")
    with pytest.raises(BrokenInput, match="a.wav: holds samples that are not numbers"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("rate", [0, 999, 384_001, 2**31 - 1])
def test_a_spoiled_rate_is_broken(tmp_path, rate):
    """A header of noise must not ask for a terabyte of samples."""
    path = corpora.write(tmp_path / "a.wav", corpora.sound(0.1))
    content = bytearray(path.read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(BrokenInput, match=f"a.wav: names a rate of {rate} Hz" if rate else "a.wav"):
        read_audio(path)


def test_a_header_of_far_too_many_samples_is_broken(tmp_path):
    path = corpora.announcing(corpora.write(tmp_path / "a.flac", corpora.sound(0.1)), 2**36 - 1)
    with pytest.raises(BrokenInput, match="a.flac: announces 68,719,476,735 samples"):
        read_audio(path)


def test_a_named_pipe_does_not_wait_for_a_writer(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(BrokenInput, match="a.wav: is not a regular file"):
        read_audio(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BrokenInput, match="a.png: is not a regular file"):
        read_image(tmp_path / "a.png")
    corpora.write(tmp_path / "b.wav", corpora.sound(0.1))
    assert corpus.sounds(tmp_path) == [tmp_path / "b.wav"]


@pytest.mark.parametrize(
    ("wave", "found"),
    [(np.zeros(3, np.uint8), "uint8"), (np.zeros(3, np.int64), "int64"), (np.array([0.0, np.nan]), "not numbers")],
)
def test_waveforms_of_no_known_scale_are_not_converted(wave, found):
    with pytest.raises(AtlabError, match=f"expected a waveform of floats .*{found}"):
        to_int16(wave)


def test_a_coding_that_cannot_be_read_is_broken(tmp_path):
    soundfile.write(tmp_path / "a.wav", corpora.sound(0.1), 8000, subtype="GSM610")
    with pytest.raises(BrokenInput, match="a.wav: frames must be specified"):
        read_audio(tmp_path / "a.wav")


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_either_order_of_bytes(tmp_path, endian):
    wave, path = corpora.sound(0.2), tmp_path / "a.wav"
    soundfile.write(path, wave, 16_000, endian=endian)
    np.testing.assert_allclose(read_audio(path), wave, atol=1 / 32768)
    path.write_bytes(path.read_bytes()[:-1001])
    with pytest.raises(BrokenInput, match="truncated, 1001 bytes are missing"):
        read_audio(path)


def test_an_open_length_is_no_truncation(tmp_path):
    """Recorders that stream write 0xFFFFFFFF as the length of the data and never come back."""
    path = corpora.write(tmp_path / "a.wav", corpora.sound(0.1))
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    assert read_audio(path).shape == (1600,)


def test_chunks_after_the_sound_are_no_truncation(tmp_path):
    path = corpora.write(tmp_path / "a.wav", corpora.sound(0.1))
    wanted = read_audio(path)
    with open(path, "ab") as file:
        file.write(b"LIST" + (5).to_bytes(4, "little") + b"odd..")
    np.testing.assert_array_equal(read_audio(path), wanted)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_resampling_keeps_a_tone_and_its_phase(rate):
    """Against the analytic tone; the edges, where the filter hangs over, are left out."""
    frequency = 0.4 * min(rate, 16_000)
    wave = np.sin(2 * np.pi * frequency * np.arange(rate) / rate)
    got = resample(wave.astype(np.float32), rate, 16_000)
    assert got.shape == (16_000,) and got.dtype == np.float32
    wanted = np.sin(2 * np.pi * frequency * np.arange(16_000) / 16_000)
    np.testing.assert_allclose(got[500:-500], wanted[500:-500], atol=2e-3)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_resampling_removes_what_would_alias(rate):
    wave = np.sin(2 * np.pi * 9_000 * np.arange(rate) / rate)
    got = resample(wave, rate, 16_000)
    assert 20 * np.log10(np.sqrt(np.mean(got[500:-500] ** 2) * 2)) < -75


def test_resampling_equals_scipy_fft_within_the_passband():
    """An independent method: band-limited noise, resampled in the frequency domain."""
    rng = np.random.default_rng(0)
    b = scipy.signal.firwin(401, 3000, fs=8000)
    wave = np.convolve(rng.standard_normal(8000), b, "same") * np.hanning(8000)
    np.testing.assert_allclose(resample(wave, 8000, 16_000), scipy.signal.resample(wave, 16_000), atol=5e-3)


def test_an_equal_rate_changes_nothing():
    wave = np.random.default_rng(0).standard_normal(99).astype(np.float32)
    np.testing.assert_array_equal(resample(wave, 16_000, 16_000), wave)


def test_lengths_and_integers():
    assert fit_length(np.arange(5), 3).tolist() == [0, 1, 2] and fit_length(np.arange(2), 4).tolist() == [0, 1, 0, 0]
    every = np.arange(-32768, 32768, dtype=np.int16)
    np.testing.assert_array_equal(to_int16((every / 32768).astype(np.float32)), every)
    assert to_int16(np.array([1.7, -1.7])).tolist() == [32767, -32768] and to_int16(np.zeros(1)).dtype == np.int16
