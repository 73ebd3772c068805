"""A backbone shared by several models: an image goes through it once.

Models trained on the same frozen backbone have the same backbone weights. The first loaded model keeps them,
the others use its backbone. The feature map of a view is kept as long as the view, which is as long as its
sample.
"""

from __future__ import annotations

import threading
import weakref
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import torch
from open_clip.timm_model import TimmModel
from timm.models.efficientnet import EfficientNet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

_kept: weakref.WeakValueDictionary[tuple[str, ...], SharedBackbone] = weakref.WeakValueDictionary()
_lock = threading.Lock()

_IMAGES_ON_A_CPU = 4
"""Images in one batch on a CPU. Larger batches exceed its caches and take up to three times as long per
image."""


class SharedBackbone:
    """Compute and keep the feature maps of views.

    Args:
        trunk: a timm network, in eval mode, on its device and in its dtype.
    """

    def __init__(self, trunk: Any) -> None:
        self.trunk = trunk
        if next(trunk.parameters()).device.type == "cpu":
            self.trunk.to(memory_format=torch.channels_last)
        self._seen: dict[int, tuple[weakref.ref[Any], torch.Tensor]] = {}
        self._on_a_cpu = next(trunk.parameters()).device.type == "cpu"

    def maps(
        self,
        views: Sequence[NDArray[np.uint8]],
        normalised: Callable[[Sequence[NDArray[np.uint8]]], torch.Tensor],
    ) -> torch.Tensor:
        """Return (B, C, H, W), the last feature map of each view.

        Args:
            views: at least one (3, S, S) uint8 array. Arrays are recognised by identity, not by content.
            normalised: views -> (B, 3, S, S), the network's input.
        """
        new = [view for view in views if id(view) not in self._seen]
        if new:
            at_once = _IMAGES_ON_A_CPU if self._on_a_cpu else len(new)
            for start in range(0, len(new), at_once):
                some = new[start : start + at_once]
                with torch.inference_mode():
                    found = self.trunk.forward_features(normalised(some))
                for view, seen in zip(some, found, strict=True):
                    self._remember(view, seen)
        return torch.stack([self._seen[id(view)][1] for view in views])

    def _remember(self, view: NDArray[np.uint8], seen: torch.Tensor) -> None:
        key = id(view)
        self._seen[key] = (weakref.ref(view, lambda _: self._seen.pop(key, None)), seen)


def shared_backbone(trunk: Any) -> SharedBackbone:
    """Return the backbone with the weights of ``trunk``: that of an earlier model, or a new one.

    Args:
        trunk: a timm network, in eval mode, on its device and in its dtype.
    """
    weight = next(trunk.parameters())
    key = (type(trunk).__name__, _fingerprint(trunk), str(weight.device), str(weight.dtype))
    with _lock:
        backbone = _kept.get(key)
        if backbone is None:
            backbone = SharedBackbone(trunk)
            _kept[key] = backbone
    return backbone


def has_backbone(visual: Any) -> bool:
    """Return whether the image tower of an open_clip model is an EfficientNet of timm with a head.

    Its trunk is then a backbone that other models can share.
    """
    return isinstance(visual, TimmModel) and isinstance(visual.trunk, EfficientNet)


def _fingerprint(trunk: Any) -> str:
    digest = sha256()
    for name, weight in trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
