"""One network that several models look through: an image goes through it once, whoever asks.

Models that were trained on the same frozen backbone bring the same weights. The first that is loaded keeps
them, the others look through it, and what it saw of a view stays as long as that view does: as long as its
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
"""Images that a CPU takes at a time. More leave its caches, and take up to three times as long each."""


class SharedBackbone:
    """Remembers the feature maps of views.

    Args:
        trunk: a timm network, evaluating, on its device and in its dtype.
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
            views: at least one (3, S, S) uint8 array. An array is known by its identity, not by its content.
            normalised: makes of views what the network takes, (B, 3, S, S).
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
    """Return the backbone with the weights of ``trunk``: that of a model loaded before, or a new one.

    Args:
        trunk: a timm network, evaluating, on its device and in its dtype.
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
    """Return whether the image tower of an open_clip model is an EfficientNet of timm below a head.

    Its trunk then is a backbone that other models may look through, and gives feature maps that can be
    shared.
    """
    return isinstance(visual, TimmModel) and isinstance(visual.trunk, EfficientNet)


def _fingerprint(trunk: Any) -> str:
    digest = sha256()
    for name, weight in trunk.state_dict().items():
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
