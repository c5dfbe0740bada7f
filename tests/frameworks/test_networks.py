"""Encoders of other libraries: the loss compares their channels, by a naive float64 loop on the axis that is known for each."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import atlab
from atlab.errors import AtlabError
from tests.frameworks.naive import activations, at_loss


def assert_compared_on(make, layers: dict[str, int], *inputs, **keywords) -> None:
    """The loss between make(0) and make(1) at {layer: axis of the channels} is the naive one on these axes."""
    student, speaker = make(0), make(1).eval()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(speaker, list(layers)))
    student(*inputs, **keywords)
    loss = at(*inputs, **keywords)
    loss.backward()
    with torch.no_grad():
        s, t = (activations(model, list(layers), *inputs, **keywords) for model in (student, speaker))
    for layer, axis in layers.items():
        right = at_loss(s[layer].movedim(axis, 1), t[layer].movedim(axis, 1))
        assert float(at.values[layer]) == pytest.approx(float(right), rel=1e-4), layer
        if axis == -1:
            assert abs(float(at_loss(s[layer], t[layer]) - right)) > 1e-4, (
                f"{layer}: the other axis gives the same number"
            )
    assert float(loss.detach()) == pytest.approx(sum(float(v) for v in at.values.values()), rel=1e-5)
    assert max(float(p.grad.abs().max()) for p in student.parameters() if p.grad is not None) > 0


def seeded(make):
    def made(seed: int) -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return make()

    return made


def test_torchvision_vit():
    from torchvision.models import VisionTransformer

    make = seeded(lambda: VisionTransformer(32, 8, 2, 2, 24, 48))
    layers = {
        "conv_proj": 1,
        "encoder.layers.encoder_layer_0": -1,
        "encoder.layers.encoder_layer_1.mlp": -1,
        "encoder.ln": -1,
    }
    assert_compared_on(make, layers, torch.randn(2, 3, 32, 32))


def test_torchvision_swin():
    from torchvision.models.swin_transformer import SwinTransformer

    make = seeded(lambda: SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.0))
    assert_compared_on(
        make, {"features.0.0": 1, "features.0": -1, "features.1": -1, "features.3.1": -1}, torch.randn(2, 3, 32, 32)
    )


def wav2vec2(layer_drop: float = 0.0):
    import torchaudio

    return torchaudio.models.wav2vec2_model(
        extractor_mode="group_norm", extractor_conv_layer_config=[(16, 10, 5), (16, 3, 2)], extractor_conv_bias=False, encoder_embed_dim=24,
        encoder_projection_dropout=0.0, encoder_pos_conv_kernel=8, encoder_pos_conv_groups=2, encoder_num_layers=2, encoder_num_heads=2,
        encoder_attention_dropout=0.0, encoder_ff_interm_features=48, encoder_ff_interm_dropout=0.0, encoder_dropout=0.0,
        encoder_layer_norm_first=False, encoder_layer_drop=layer_drop, aux_num_out=None,
    )  # fmt: skip


def test_torchaudio_wav2vec2():
    layers = {"feature_extractor.conv_layers.1": 1, "feature_extractor": -1, "encoder.transformer.layers.1": -1}
    assert_compared_on(seeded(wav2vec2), layers, torch.randn(2, 400))


def test_a_dropped_layer_of_wav2vec2_is_a_sentence():
    make, x = seeded(lambda: wav2vec2(layer_drop=1.0)), torch.randn(2, 400)
    student = make(0).train()
    at = atlab.AntiTransferLoss(student, atlab.Teacher(make(1), "encoder.transformer.layers.1"))
    student(x)
    with pytest.raises(AtlabError, match="latest forward pass did not run it .LayerDrop"):
        at(x)


def test_timm_vit():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    make = seeded(lambda: timm.create_model("vit_tiny_patch16_224", img_size=32, embed_dim=24, depth=2, num_heads=2))
    assert_compared_on(make, {"patch_embed": -1, "blocks.0": -1, "blocks.1.mlp": -1}, torch.randn(2, 3, 32, 32))


def test_timm_convnext():
    timm = pytest.importorskip("timm", reason="timm is not installed")
    make = seeded(lambda: timm.create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32)))
    assert_compared_on(make, {"stem": 1, "stages.1": 1, "stages.0.blocks.0.mlp": 1}, torch.randn(2, 3, 64, 64))


def test_transformers_wav2vec2():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.Wav2Vec2Config(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, conv_dim=(16, 16), conv_stride=(5, 2),
        conv_kernel=(10, 3), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2, layerdrop=0.0, hidden_dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, mask_time_prob=0.0, num_feat_extract_layers=2,
    )  # fmt: skip
    make = seeded(lambda: transformers.Wav2Vec2Model(config))
    assert_compared_on(
        make,
        {"feature_extractor": 1, "feature_projection": -1, "encoder.layers.1": -1, "encoder": -1},
        torch.randn(2, 400),
    )


def test_transformers_bert_with_an_attention_mask():
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    make, mask = seeded(lambda: transformers.BertModel(config)), torch.ones(3, 7, dtype=torch.long)
    mask[:, 4:] = 0
    layers = {"embeddings": -1, "encoder.layer.0": -1, "encoder.layer.1": -1}
    assert_compared_on(make, layers, input_ids=torch.randint(50, (3, 7)), attention_mask=mask)
