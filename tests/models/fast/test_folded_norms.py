from __future__ import annotations

import copy

import timm
import torch
from torch import nn

from autotag.models.fast.folded_norms import fold_norms


def with_statistics(network: nn.Module) -> nn.Module:
    """The network, evaluating, with norms that do something."""
    random = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=random)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2.0, generator=random)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return network.eval()


def test_a_network_gives_the_same_without_its_norms() -> None:
    torch.manual_seed(0)
    network = with_statistics(timm.create_model("tf_efficientnet_lite0", num_classes=0))
    folded = copy.deepcopy(network)
    assert fold_norms(folded) == sum(isinstance(each, nn.BatchNorm2d) for each in network.modules())
    assert not any(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    pixels = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(folded(pixels), network(pixels), atol=1e-4, rtol=1e-3)


def test_a_norm_that_follows_no_convolution_stays() -> None:
    network = with_statistics(
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4))
    )
    assert fold_norms(network) == 0
    assert [type(each) for each in network] == [nn.BatchNorm2d, nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
