"""From stored inputs to network inputs, a batch at a time on the compute device."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from atlab.errors import AtlabError


class Spectrogram(nn.Module):
    """Linear magnitude spectrogram: 16 ms Hamming windows, 50 % overlap (AT paper, section 4.2).

    [B, T] int16 or float -> [B, 1, T // hop + 1, n_fft // 2 + 1] float32; rows are time, columns frequency;
    one second at 16 kHz gives 126 x 129. int16 is scaled to [-1, 1). Equals `scipy.signal.stft` with
    zero-extended boundaries (its scaling: divided by the window's sum) and padded=False, and librosa's divided by that sum:
    for a clip that is not a whole number of hops, the last frame is centred on the last whole hop.

    >>> Spectrogram()(torch.zeros(2, 16000, dtype=torch.int16)).shape
    torch.Size([2, 1, 126, 129])
    """

    def __init__(self, n_fft: int = 256, hop: int = 128, sample_rate: int = 16000) -> None:
        super().__init__()
        self.n_fft, self.hop, self.sample_rate = n_fft, hop, sample_rate
        self.register_buffer("window", torch.hamming_window(n_fft, dtype=torch.float64).float(), persistent=False)

    def forward(self, waves: Tensor) -> Tensor:
        if waves.ndim != 2:
            raise AtlabError(f"waveforms must be [B, T], found {tuple(waves.shape)}")
        if waves.dtype != torch.int16 and not waves.is_floating_point():
            raise AtlabError(f"waveforms must be int16, or floats in [-1, 1]; found {waves.dtype}")
        scale = (1 / 32768 if waves.dtype == torch.int16 else 1.0) / self.window.sum()
        with torch.autocast(waves.device.type, enabled=False):
            # `torch.stft` gives columns of frames, and `abs` takes care of squares that overflow: together twice as slow.
            padded = torch.nn.functional.pad(waves.float(), (self.n_fft // 2, self.n_fft // 2))
            frames = padded.unfold(1, self.n_fft, self.hop)
            spectrum = torch.fft.rfft(frames * (self.window * scale))
            if spectrum.requires_grad:  # the root has no gradient at 0, the absolute value has
                return spectrum.abs().unsqueeze(1)
            return (spectrum.real.square() + spectrum.imag.square()).sqrt().unsqueeze(1)

    def times(self, samples: int) -> np.ndarray:
        """Centre of each row, in s, for clips of `samples`."""
        return np.arange(samples // self.hop + 1) * self.hop / self.sample_rate

    @property
    def frequencies(self) -> np.ndarray:
        """Centre of each column, in Hz."""
        return np.arange(self.n_fft // 2 + 1) * self.sample_rate / self.n_fft


def frontend(fs) -> Callable[[Tensor], Tensor]:
    """The step from stored inputs to network inputs: spectrograms of sound, floats in [0, 1] of images."""
    return Spectrogram(sample_rate=fs.sample_rate) if fs.kind == "audio" else images_to_float


def images_to_float(images: Tensor) -> Tensor:
    """uint8 [B, C, H, W] -> float32 in [0, 1]."""
    return images.float() / 255


def input_statistics(batches: Iterable) -> tuple[float, float]:
    """Scalar mean and standard deviation of all network inputs of a pass, in float64 (Welford over batches).

    >>> from atlab.data import InMemory
    >>> input_statistics(InMemory(torch.tensor([[1.0], [3.0]]), torch.tensor([0, 1])))
    (2.0, 1.0)
    """
    count, mean, squares = 0, 0.0, 0.0
    for batch in batches.epoch(0):
        x = batch.x.double() if batch.x.device.type != "mps" else batch.x.cpu().double()
        n, batch_mean = x.numel(), float(x.mean())
        delta = batch_mean - mean
        squares += float((x - batch_mean).square().sum()) + delta**2 * count * n / (count + n)
        count, mean = count + n, mean + delta * n / (count + n)
    if not count:
        raise AtlabError("no input to take mean and standard deviation of: the training part is empty")
    return mean, (squares / count) ** 0.5
