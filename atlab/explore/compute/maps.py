"""Where networks look, computed: maps, the sound under a map, relevance by band and time."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from atlab.data import frontend
from atlab.errors import AtlabError
from atlab.explore import studies
from atlab.explore.cache import RESULTS
from atlab.explore.compute.data import with_noise
from atlab.explore.widgets.background import Step
from atlab.invariance.maps.gradcam import class_activation_map, ground
from atlab.plots import Picture

BANDS = (0, 250, 500, 1000, 2000, 4000, 8000, 16000, 24000)  # Hz
SILENT = 1e-12


@dataclass(frozen=True)
class Sample:
    """A clip as networks see it: its stored array, what it is known by, its row and its labels in words."""

    key: Hashable
    array: np.ndarray
    row: int
    caption: str


def sample(fs, row: int, noise: str = "", snr_db: float = 0.0) -> Sample:
    """A clip of a data set, with noise of a kind if one is given."""
    clip = fs.factors.iloc[row]
    caption = ", ".join(str(clip[name]) for name in fs.factor_names)
    array, key = fs.read([row])[0], (fs.content_hash, int(row))
    if not noise:
        return Sample(key, array, int(row), caption)
    if fs.kind != "audio":
        raise AtlabError("noise is mixed into sound: this data set holds images")
    noisy = with_noise(array, noise, snr_db, fs.sample_rate, str(clip["id"]))
    return Sample((*key, noise, snr_db), noisy, int(row), f"{caption}, {noise} at {snr_db:g} dB SNR")


def inputs(fs, samples: Sequence[Sample]) -> torch.Tensor:
    """What the networks get: float32 [B, C, H, W]."""
    front = RESULTS.get(("inputs", fs.kind, fs.sample_rate), lambda: frontend(fs))
    return front(torch.from_numpy(np.stack([s.array for s in samples])))


def picture(fs, one: Sample) -> Picture:
    """The clip as the ground that maps are laid over, kept."""
    return RESULTS.get(("picture", one.key), lambda: ground(fs, one.array, one.caption))


def network_key(net: Any) -> Hashable:
    """What a network's results are kept under."""
    return getattr(net, "card", {}).get("weights_hash") or id(net)


def predictions(net, fs, samples: Sequence[Sample]) -> list[int]:
    """Predicted class numbers, one per clip."""
    key = ("predictions", network_key(net), tuple(s.key for s in samples))

    def make() -> list[int]:
        with torch.no_grad():
            return net(inputs(fs, samples)).argmax(1).tolist()

    return RESULTS.get(key, make)


def target_classes(net, fs, samples: Sequence[Sample], target: str) -> list[int]:
    """The class whose map is drawn, one per clip: "true" (the clip's label), "predicted", or a class by name.

    A network that has no such class, or does not know the clip's label, explains what it predicts.
    """
    classes = [str(name) for name in net.card["classes"]]
    predicted = predictions(net, fs, samples)
    if target == "predicted":
        return predicted
    task = net.card.get("task")
    if target == "true":
        labels = [str(fs.factors[task].iloc[s.row]) if task in fs.factor_names else "" for s in samples]
    else:
        labels = [target] * len(samples)
    return [classes.index(label) if label in classes else p for label, p in zip(labels, predicted, strict=True)]


def class_maps(net, fs, samples: Sequence[Sample], layer: str, method: str, targets: Sequence[int]) -> np.ndarray:
    """Maps of some clips over their pictures, each for its class: float32 [B, height, width], kept one by one."""
    keys = [("map", network_key(net), s.key, layer, method, t) for s, t in zip(samples, targets, strict=True)]
    maps = [RESULTS.find(key) for key in keys]
    wanted = [i for i, found in enumerate(maps) if found is None]
    if wanted:
        x = inputs(fs, [samples[i] for i in wanted])
        drawn = class_activation_map(net, x, layer, [targets[i] for i in wanted], method)
        for i, one in zip(wanted, drawn, strict=True):
            # Networks see time downwards, pictures show it from left to right.
            maps[i] = RESULTS.get(keys[i], lambda one=one: one.T if fs.kind == "audio" else one)
    return np.stack(maps)


def deepest_with_maps(
    nets, fs, samples: Sequence[Sample], method: str, target: str, first: Sequence[str] = ()
) -> Iterator[Step | str]:
    """The last layer at which no network's map of these clips is empty (else the one with the fewest): steps, then its name.

    Layers in `first` (where anti-transfer acts) are looked at before the others.

    A class activation map is empty where the class's score only falls with every channel, as happens at late layers.
    """
    layers = studies.layers_of(next(iter(nets.values())))
    layers = list(dict.fromkeys([*(name for name in first if name in layers), *reversed(layers)]))
    empty: dict[str, int] = {}
    for n, layer in enumerate(layers):
        yield Step(n, len(layers), f"looking for a layer whose maps are not empty: {layer}")
        maps = [
            class_maps(net, fs, samples, layer, method, target_classes(net, fs, samples, target))
            for net in nets.values()
        ]
        empty[layer] = sum(int(is_empty(one)) for of_net in maps for one in of_net)
        if not empty[layer]:
            break
    yield min(empty, key=lambda layer: empty[layer])


def is_empty(one: np.ndarray) -> bool:
    """Whether a map is zero everywhere."""
    return not one.any()


def masked_sound(wave: np.ndarray, mask: np.ndarray, threshold: float = 0.0) -> np.ndarray:
    """What a map selects of a sound: int16 [T] and a map [frequency, time] in [0, 1] -> float32 [T] in -1..1.

    The short-time Fourier transform of the front end times the map (times 1 where the map is at least `threshold`, if
    that is above 0), turned back into sound with the original phase.

    >>> wave = (8000 * np.sin(np.arange(4096) / 3)).astype(np.int16)
    >>> float(np.abs(masked_sound(wave, np.ones((129, 33))) - wave / 32768).max()) < 1e-5
    True
    """
    options = {"n_fft": 256, "hop_length": 128, "window": torch.hamming_window(256), "center": True}
    spectrum = torch.stft(torch.from_numpy(wave / 32768).float(), pad_mode="constant", return_complex=True, **options)
    if tuple(spectrum.shape) != mask.shape:
        raise AtlabError(f"a map of {mask.shape} does not fit the sound's spectrogram {tuple(spectrum.shape)}")
    gain = torch.from_numpy(np.ascontiguousarray(mask >= threshold if threshold > 0 else mask)).float()
    return torch.istft(spectrum * gain, length=len(wave), **options).numpy()


def by_band(values: np.ndarray, frequencies: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Share of a map's (or a power spectrogram's) mass in each band: [frequency, time], Hz -> ([bands], names in kHz)."""
    edges = [edge for edge in BANDS if edge < frequencies[-1]] + [np.inf]
    band = np.searchsorted(edges, frequencies, side="right") - 1
    mass = np.bincount(band, values.sum(1), minlength=len(edges) - 1)
    ends = [*edges[1:-1], int(frequencies[-1])]
    return mass / max(mass.sum(), SILENT), [
        f"{low / 1000:g}-{high / 1000:g}" for low, high in zip(edges[:-1], ends, strict=True)
    ]


def by_time(values: np.ndarray) -> np.ndarray:
    """Share of the mass in each column: [frequency, time] -> [time]."""
    mass = values.sum(0)
    return mass / max(float(mass.sum()), SILENT)
