"""The fast paths: each gives what the plain library call gives, in less time.

All are on by default. ``Pipeline(fast_paths=["blip_generation"])`` switches one off by name, ``"off"`` every
one. A fast path that finds the installed library changed is not used, and says so once in the log
``"autotag"``.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from autotag.errors import ConfigError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Collection

_logger = logging.getLogger("autotag")
_said: set[tuple[str, str]] = set()


def _path(does: str) -> bool:
    on: bool = field(default=True, metadata={"does": does})
    return on


@dataclass(frozen=True, slots=True)
class FastPaths:
    """Says which fast paths are used, one attribute for each."""

    views: bool = _path(
        "images are decoded once and resized in uint8 by the reading threads, for every model"
    )
    blip_attention: bool = _path("BLIP's attention through torch's scaled_dot_product_attention")
    blip_generation: bool = _path(
        "a generation loop for BLIP that never projects keys and values of the image"
    )
    coca_decoder: bool = _path("keys and values of CoCa's tokens kept, not calculated again for each token")
    packed_linears: bool = _path("linear layers on a CPU in oneDNN's own layout, on CPUs that gain by it")
    packed_attention: bool = _path(
        "attention of and to images on a CPU by oneDNN's products, where that gains"
    )
    folded_norms: bool = _path("batch norms of convolutional towers folded into their convolutions")
    shared_backbone: bool = _path(
        "one pass through a convolutional backbone for all models that bring the same"
    )
    keyphrase_vectors: bool = _path("sentence embeddings kept over all batches, one per text")
    causal_text: bool = _path("CLIP texts cut at their end token, and what they begin with read once")
    prompt_chain: bool = _path("prompts that begin alike compared at the price of what they do not share")

    @classmethod
    def parse(cls, setting: Literal["auto", "off"] | Collection[str]) -> FastPaths:
        """Return the fast paths of a pipeline's setting.

        Args:
            setting: ``"auto"`` for every fast path, ``"off"`` for none, or the names of those to switch off.

        Raises:
            UnknownNameError: a name is not a fast path's.
            ConfigError: it is a text that is neither ``"auto"`` nor ``"off"``.
        """
        if setting == "auto":
            return cls()
        if setting == "off":
            return cls(**dict.fromkeys(FAST_PATHS, False))
        if isinstance(setting, str):
            raise ConfigError(
                f"fast_paths={setting!r} does not fit; give 'auto', 'off', or a list of names to switch off."
            )
        return cls().without(*setting)

    def without(self, *names: str) -> FastPaths:
        """Return the same with these switched off.

        Raises:
            UnknownNameError: a name is not a fast path's.
        """
        for name in names:
            if name not in FAST_PATHS:
                raise UnknownNameError("fast path", name, list(FAST_PATHS))
        return replace(self, **dict.fromkeys(names, False))


AUTO = FastPaths()
"""All of them."""

FAST_PATHS: dict[str, str] = {path.name: path.metadata["does"] for path in fields(FastPaths)}
"""Name -> what it does."""


def say_not_used(name: str, reason: str) -> None:
    """Log a warning, once per reason, that the plain library call takes the place of a fast path.

    Args:
        name: the fast path.
        reason: why it does not fit, in words.
    """
    if (name, reason) not in _said:
        _said.add((name, reason))
        _logger.warning("fast path %r is not used: %s", name, reason)
