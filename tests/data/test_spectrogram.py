"""Spectrograms equal those of scipy and librosa; statistics equal numpy's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from atlab.data import InMemory, Spectrogram, frontend, input_statistics
from atlab.data.synthetic.toy import toy
from atlab.errors import AtlabError


@pytest.fixture
def waves() -> np.ndarray:
    """Noise and a tone, int16 [2, 16000]."""
    tone = 20000 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    return np.stack([np.random.default_rng(0).integers(-32768, 32768, 16000), np.round(tone)]).astype(np.int16)


@pytest.mark.parametrize("samples", [16000, 12800, 1024, 15999, 1001, 1000, 257])
def test_equals_scipy(waves, samples):
    waves = waves[:, :samples]
    got = Spectrogram()(torch.from_numpy(waves))
    assert got.shape == (2, 1, samples // 128 + 1, 129) and got.dtype == torch.float32
    frequencies, times, wanted = scipy.signal.stft(
        waves / 32768, 16000, window="hamming", nperseg=256, noverlap=128, boundary="zeros", padded=False
    )
    np.testing.assert_allclose(got[:, 0], np.abs(wanted).swapaxes(1, 2), atol=1e-5)
    assert np.abs(wanted).max() > 0.2
    np.testing.assert_allclose(Spectrogram().times(samples), times)
    np.testing.assert_allclose(Spectrogram().frequencies, frequencies)


@pytest.mark.parametrize("samples", [16000, 15999, 1000])
def test_equals_librosa(waves, samples):
    waves = waves[:, :samples]
    wanted = librosa.stft(waves / 32768, n_fft=256, hop_length=128, window="hamming", center=True, pad_mode="constant")
    wanted = np.abs(wanted).swapaxes(1, 2) / scipy.signal.get_window("hamming", 256).sum()
    np.testing.assert_allclose(Spectrogram()(torch.from_numpy(waves))[:, 0], wanted, atol=1e-5)


def test_other_sizes_and_rates(waves):
    front = Spectrogram(n_fft=512, hop=160, sample_rate=8000)
    got = front(torch.from_numpy(waves))
    wanted = librosa.stft(waves / 32768, n_fft=512, hop_length=160, window="hamming", center=True, pad_mode="constant")
    wanted = np.abs(wanted).swapaxes(1, 2) / scipy.signal.get_window("hamming", 512).sum()
    np.testing.assert_allclose(got[:, 0], wanted, atol=1e-5)
    assert len(front.times(16000)) == got.shape[2] and front.times(16000)[1] == 0.02
    assert len(front.frequencies) == got.shape[3] == 257 and front.frequencies[-1] == 4000


def test_a_tone_of_amplitude_1_has_magnitude_one_half_at_its_frequency(waves):
    spectrum = Spectrogram()(torch.from_numpy(waves[1:]))[0, 0, 60]
    assert Spectrogram().frequencies[int(spectrum.argmax())] == 1000
    assert float(spectrum.max()) == pytest.approx(20000 / 32768 / 2, rel=1e-3)


def test_floats_and_integers_agree_and_no_precision_is_lost_under_autocast(waves):
    front, integers = Spectrogram(), torch.from_numpy(waves)
    wanted = front(integers)
    assert torch.allclose(front(integers.float() / 32768), wanted, atol=1e-7)
    assert torch.allclose(front(integers.double() / 32768), wanted, atol=1e-7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(front(integers), wanted)


def test_gradients_reach_the_waveform_and_are_finite_in_silence(waves):
    x = torch.from_numpy(waves[:, :1024] / 32768).requires_grad_()
    loud = Spectrogram()(x)
    assert torch.allclose(loud, Spectrogram()(x.detach()), atol=1e-7)
    loud.square().sum().backward()
    assert (x.grad.abs().amax(1) > 0).all()
    silence = torch.zeros(1, 1024, requires_grad=True)
    Spectrogram()(silence).sum().backward()
    assert torch.isfinite(silence.grad).all()


@pytest.mark.parametrize("shape", [(16000,), (2, 1, 16000)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(AtlabError, match=r"waveforms must be \[B, T\], found"):
        Spectrogram()(torch.zeros(shape))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.int32])
def test_integers_of_no_known_scale_are_refused(dtype):
    with pytest.raises(AtlabError, match="waveforms must be int16, or floats in"):
        Spectrogram()(torch.zeros(1, 1000, dtype=dtype))


def test_frontend_follows_the_data(tmp_path):
    fs = toy(tmp_path / "set", words=2, speakers=1, repetitions=1, samples=300)
    assert frontend(fs)(torch.from_numpy(fs.read([0]))).shape == (1, 1, 3, 129)
    assert frontend(fs).sample_rate == 16000
    fs.card["kind"] = "image"
    assert frontend(fs)(torch.tensor([[[[0, 51, 255]]]], dtype=torch.uint8)).tolist() == [
        [[[0.0, pytest.approx(0.2), 1.0]]]
    ]


def test_input_statistics_equal_numpy(tmp_path):
    x = torch.randn(50, 1, 3, 5, generator=torch.Generator().manual_seed(0)) * 1e-3 + 4
    got = input_statistics(InMemory(x, torch.zeros(50), batch_size=7))
    wanted = x.numpy().astype(np.float64)
    np.testing.assert_allclose(got, (wanted.mean(), wanted.std()), rtol=1e-9)


def test_statistics_of_nothing_are_refused():
    class Empty:
        def epoch(self, number: int) -> list:
            return []

    with pytest.raises(AtlabError, match="no input to take mean and standard deviation of"):
        input_statistics(Empty())
