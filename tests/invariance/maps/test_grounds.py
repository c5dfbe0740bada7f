"""Maps of runs over their clip: sound in dB with seconds and hertz, pictures with their first row on top."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from atlab import models, plots
from atlab.data import synthetic_digits, toy
from atlab.invariance.maps.gradcam import activation_maps


@pytest.mark.parametrize("kind", ["audio", "image"])
def test_maps_lie_over_their_clip(kind, tmp_path):
    fs = toy(tmp_path / "toy") if kind == "audio" else synthetic_digits(tmp_path / "digits", images=4, workers=0)
    target = fs.factor_names[0]
    net = models.vgg16(len(fs.classes(target)), width=1 / 64, in_channels=1 if kind == "audio" else 3)
    models.save(net, tmp_path / "net.safetensors", classes=fs.classes(target))
    (ground,), maps = activation_maps(
        fs, 0, {"baseline": SimpleNamespace(model_path=tmp_path / "net.safetensors")}, "conv5"
    )
    ((name, (heat,)),) = maps.items()
    assert name.startswith("baseline: ") and name.removeprefix("baseline: ") in [str(c) for c in fs.classes(target)]
    assert heat.shape == ground.values.shape == (len(ground.y), len(ground.x)) and 0 <= heat.min() <= heat.max() <= 1
    figure = plots.class_maps([ground], maps)
    assert np.array_equal(figure.data[-1].z, np.float32(heat))
    assert ground.upward == (kind == "audio") and (ground.values.max() == pytest.approx(0) if kind == "audio" else True)
    if kind == "image":  # the clip in its colours, maps over its grey values
        assert np.array_equal(figure.data[0].z, np.moveaxis(fs.read([0])[0], 0, -1))
    else:
        assert ground.colours is None
