"""Log mel filter-bank energies of waves, frame by frame."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from atlab.errors import AtlabError

if TYPE_CHECKING:
    import torch


SAMPLE_RATE = 16_000
FRAME, STRIDE, FFT, MELS = 400, 160, 512, 40  # 25 ms and 10 ms at 16 kHz


def filterbank(wave: np.ndarray | torch.Tensor) -> torch.Tensor:
    """Log mel filter-bank energies (log-MFSC), float32 [..., frames, 40], of waves [..., samples] at 16 kHz.

    Frames of 400 samples every 160, Hamming window, power spectrum of 512 points, 40 triangular filters of
    the HTK mel scale from 0 to 8 kHz, natural logarithm (floor 1e-10). Integer waves are divided by 32,768.

    >>> tuple(filterbank(np.zeros((2, 16000), np.int16)).shape)
    (2, 98, 40)
    """
    import torch

    wave = torch.as_tensor(wave)
    wave = wave.float() if wave.is_floating_point() else wave.float() / 32768
    if wave.shape[-1] < FRAME:
        raise AtlabError(f"a wave of {wave.shape[-1]} samples; a frame needs at least {FRAME}")
    frames = wave.unfold(-1, FRAME, STRIDE) * torch.hamming_window(FRAME, periodic=False, device=wave.device)
    power = torch.fft.rfft(frames, FFT).abs().square()
    return (power @ _mel_filters().to(wave.device)).clamp_min(1e-10).log()


@functools.lru_cache(maxsize=1)
def _mel_filters() -> torch.Tensor:
    from torchaudio.functional import melscale_fbanks

    return melscale_fbanks(FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, MELS, SAMPLE_RATE, norm=None, mel_scale="htk")
