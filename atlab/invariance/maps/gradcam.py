"""Where a network looks: class activation maps of any layer, by pytorch-grad-cam."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from atlab.data import frontend
from atlab.data.display import caption
from atlab.errors import AtlabError, unknown
from atlab.plots import NAMES, Picture
from atlab.taps import find_layer, unwrap

METHODS = ("GradCAM", "GradCAMPlusPlus", "LayerCAM", "EigenCAM")
SILENT = 1e-12  # the smallest maximum that a spectrogram is divided by


def class_activation_map(
    model: nn.Module, x: Tensor, layer: str = "conv13", target: int | list[int] | None = None, method: str = "GradCAM"
) -> np.ndarray:
    """Class activation maps of a batch: x [B, C, H, W] -> float32 [B, H, W] in [0, 1], at the input's resolution.

    Each map is divided by its own maximum (Selvaraju et al. 2017); a map that is zero everywhere means that no
    feature of the layer speaks for the class.

    Args:
        model: a classifier; its weights, mode and gradients are left as they were.
        layer: layer name, see `Taps`.
        target: class number, or one per clip; the predicted class if None.
        method: one of "GradCAM", "GradCAMPlusPlus", "LayerCAM", "EigenCAM".

    >>> import atlab
    >>> net = atlab.models.vgg16(num_classes=10, width=1 / 16)
    >>> class_activation_map(net, torch.randn(2, 1, 126, 129), "conv5", target=3).shape
    (2, 126, 129)
    """
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    if method not in METHODS:
        raise unknown("map method", method, METHODS)
    model = unwrap(model)
    module = find_layer(model, layer)
    targets = None
    if target is not None:
        classes = [target] * len(x) if isinstance(target, int) else list(target)
        if len(classes) != len(x):
            raise AtlabError(f"{len(classes)} target classes for {len(x)} clips; give one, or one per clip")
        targets = [ClassifierOutputTarget(int(k)) for k in classes]
    training, wants = model.training, {name: p.requires_grad for name, p in model.named_parameters()}
    gradients = {name: p.grad for name, p in model.named_parameters()}
    copied = None
    try:
        # The library needs a graph from the parameters and leaves gradients behind; frozen models are thawed for it.
        model.eval().requires_grad_(True)
        with torch.enable_grad(), getattr(pytorch_grad_cam, method)(model=model, target_layers=[module]) as cam:
            # The library keeps the layer's own output, which an in-place operation after the layer would overwrite:
            # the network goes on with a copy.
            copied = module.register_forward_hook(lambda _, __, output: output.clone())
            maps = cam(input_tensor=x.detach().float(), targets=targets)
    finally:
        if copied is not None:
            copied.remove()
        model.train(training)
        for name, p in model.named_parameters():
            p.requires_grad_(wants[name])
            p.grad = gradients[name]
    return np.asarray(maps, dtype=np.float32)


def map_agreement(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of two stacks of maps, clip by clip: [B, H, W], [B, H, W] -> [B]; nan where one is constant.

    >>> map_agreement(np.eye(3)[None], 2 * np.eye(3)[None]).round(3)
    array([1.])
    """
    if a.shape != b.shape:
        raise AtlabError(f"maps of the same clips and size can be compared, found {a.shape} and {b.shape}")
    a, b = (m.reshape(len(m), -1).astype(float) - m.reshape(len(m), -1).mean(1, keepdims=True) for m in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))


def activation_maps(fs, row: int, runs: Mapping[str, object], layer: str = "conv13"):
    """Arguments of `plots.class_maps` for one clip or picture and several runs, each for the class it predicts."""
    from atlab import models

    clip, maps = fs.read([row]), {}
    x = frontend(fs)(torch.from_numpy(clip))
    for name, run in runs.items():
        model = models.load(run.model_path)
        with torch.no_grad():
            predicted = model.card["classes"][int(model(x).argmax())]
        heat = class_activation_map(model, x, layer)
        maps[f"{NAMES.get(name, name)}: {predicted}"] = [heat[0] if fs.kind == "image" else heat[0].T]
    return [ground(fs, clip[0], caption(fs, row))], maps


def ground(fs, clip: np.ndarray, title: str = "") -> Picture:
    """What maps of a clip or picture are laid over: its spectrogram in dB below the maximum, or its grey values.

    `clip` is one stored row of the data set `fs` (`fs.read([row])[0]`), or the same with noise; `title` says what it is.
    """
    front = frontend(fs)
    x = front(torch.from_numpy(clip[None]))[0]
    if fs.kind == "image":
        height, width = x.shape[1:]
        axes = np.arange(width), np.arange(height), "column (px)", "row (px)"
        colours = (255 * x.clamp(0, 1)).round().to(torch.uint8).permute(1, 2, 0).numpy() if len(x) == 3 else None
        return Picture(x.mean(0).numpy(), *axes, title, upward=False, colours=colours)
    decibel = 20 * torch.log10((x[0] / x.max().clamp_min(SILENT)).clamp_min(1e-4))
    return Picture(decibel.T.numpy(), front.times(len(clip)), front.frequencies, caption=title)
