"""What keeps a step cheap, by counts that no other load on the machine changes."""

from __future__ import annotations

import pytest
import torch

from atlab.descriptors import flat, self_product
from atlab.functional import anti_transfer_loss


def maps(layout: torch.memory_format, dtype: torch.dtype = torch.float32, channels: int = 16) -> torch.Tensor:
    x = torch.rand(3, channels, 12, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    return x.to(memory_format=layout).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_gradient_of_the_loss_has_the_layout_of_the_feature_maps(layout, dtype):
    """One of another layout would be converted, and everything below would compute on it."""
    x, other = maps(layout, dtype), torch.rand(3, 16, 12, 10)
    seen = []
    x.register_hook(lambda gradient: seen.append(gradient))
    anti_transfer_loss(x, other).backward()
    assert seen[0].dtype == dtype and seen[0].is_contiguous(memory_format=layout)


def test_the_gradient_is_the_same_in_both_layouts():
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        x = maps(layout)
        weights = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))
        (self_product(flat(x)) * weights).sum().backward()
        gradients.append(x.grad)
    reference = torch.einsum("bij,bjhw->bihw", (weights + weights.mT).double(), x.detach().double())
    assert torch.allclose(gradients[0], gradients[1], rtol=1e-6)
    assert torch.allclose(gradients[1].double(), reference, rtol=1e-5)
