"""A BLIP with a convolutional backbone: a hybrid ViT (Dosovitskiy et al. 2021, arXiv:2010.11929).

The last feature map of a timm network replaces the patch embedding of ``BlipVisionModel``. Everything after
it is BLIP's own code. The configuration names the network in ``vision_config["backbone"]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import timm
from torch import nn
from transformers import BlipForConditionalGeneration

if TYPE_CHECKING:
    import torch
    from transformers import BlipConfig


class BackbonePatches(nn.Module):
    """Turn pixels into one vector for each position of a feature map.

    Args:
        name: the timm network.
        width: length of the vectors.
    """

    def __init__(self, name: str, width: int) -> None:
        super().__init__()
        trunk: Any = timm.create_model(name, pretrained=False, num_classes=0, global_pool="")
        self.trunk = trunk
        self.projection = nn.Conv2d(trunk.num_features, width, kernel_size=1)

    @property
    def weight(self) -> torch.Tensor:
        """Return the weight whose dtype ``BlipVisionEmbeddings`` reads."""
        return self.projection.weight

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Return (B, width, H, W) for normalised pixels (B, 3, S, S), or for the backbone's maps of them."""
        is_map = seen.shape[1] == self.projection.in_channels
        patches: torch.Tensor = self.projection(seen if is_map else self.trunk.forward_features(seen))
        return patches


class HybridBlip(BlipForConditionalGeneration):  # type: ignore[no-untyped-call]
    """A ``BlipForConditionalGeneration`` whose patches come from a backbone.

    Args:
        config: with ``vision_config.backbone``, the name of a timm network whose feature map has
            ``(image_size // patch_size) ** 2`` positions.
    """

    def __init__(self, config: BlipConfig) -> None:
        super().__init__(config)
        vision: Any = config.vision_config
        embeddings: Any = self.vision_model.embeddings
        embeddings.patch_embedding = BackbonePatches(vision.backbone, vision.hidden_size)
