"""The names of the fast paths, each of which gives what the plain library call gives, only sooner.

All are on by default. ``Pipeline(plain=["blip_generation"])`` switches one off by name, ``["all"]`` every
one. A fast path that finds the installed library changed is not used, and says so once in the log
``"autotag"``.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from autotag.errors import UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Iterable

FAST_PATHS = {
    "views": "images are decoded once and resized in uint8 by the reading threads, for every model",
    "blip_attention": "BLIP's attention through torch's scaled_dot_product_attention",
    "blip_generation": "a generation loop for BLIP that never projects keys and values of the image",
    "step_graphs": "steps of BLIP's greedy search recorded on an NVIDIA GPU, where a trial shows a gain",
    "coca_decoder": "keys and values of CoCa's tokens kept, instead of all calculated anew for each token",
    "packed_linears": "linear layers on a CPU in oneDNN's own layout, where a trial at load shows a gain",
    "packed_attention": "attention of and to images on a CPU by oneDNN's products, where a trial shows gain",
    "folded_norms": "batch norms of convolutional towers folded into their convolutions",
    "shared_backbone": "one pass through a convolutional backbone for all models that bring the same",
    "in_place": "activations of BLIP and CLIP that overwrite what they read, the widest of all tensors",
    "keyphrase_vectors": "sentence embeddings once per text over all batches, without padding",
    "causal_text": "CLIP texts cut at their end token, and what they begin with read once",
    "prompt_chain": "prompts that begin alike compared at the price of what they do not share",
}
"""Name -> what it does."""

BY_TRIAL = frozenset({"step_graphs", "packed_linears", "packed_attention"})
"""Fast paths that measure time before they are used, so that last digits of scores differ between runs."""

_logger = logging.getLogger("autotag")
_said: set[tuple[str, str]] = set()


def check_plain(names: Iterable[str]) -> frozenset[str]:
    """The fast paths that these names switch off.

    Raises:
        UnknownNameError: neither a fast path nor ``"all"``.
    """
    off = set(names)
    for name in off:
        if name not in FAST_PATHS and name != "all":
            raise UnknownNameError("fast path", name, [*FAST_PATHS, "all"])
    return frozenset(FAST_PATHS) if "all" in off else frozenset(off)


def say_not_used(name: str, reason: str) -> None:
    """Logs a warning, once per reason, that the plain library call takes the place of a fast path.

    Args:
        name: the fast path.
        reason: why it does not fit, in words.
    """
    if (name, reason) not in _said:
        _said.add((name, reason))
        _logger.warning("fast path %r is not used: %s", name, reason)
