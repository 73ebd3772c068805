"""Settings of the fast paths; each returns the same result as the plain library call, faster.

All are on by default. ``Pipeline(fast_paths=["blip_generation"])`` switches one off by name;
``Pipeline(fast_paths="off")`` switches off all. A fast path that does not fit the installed library is not
used; one warning in the log ``"autotag"`` says so.
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
    """Choose which fast paths are used: one bool attribute for each."""

    views: bool = _path(
        "images are decoded once and resized in uint8 by the reading threads, for every model"
    )
    blip_attention: bool = _path("BLIP's attention through torch's scaled_dot_product_attention")
    blip_generation: bool = _path(
        "a generation loop for BLIP that does not project the image's keys and values"
    )
    coca_decoder: bool = _path("keys and values of CoCa's tokens kept, not calculated again for each token")
    packed_linears: bool = _path("linear layers in oneDNN's own layout, on CPUs where that is faster")
    packed_attention: bool = _path(
        "attention of and to images by oneDNN's matrix products, on CPUs where that is faster"
    )
    folded_norms: bool = _path("batch norms of convolutional towers folded into their convolutions")
    shared_backbone: bool = _path(
        "one pass through a convolutional backbone for all models that share its weights"
    )
    keyphrase_vectors: bool = _path("sentence embeddings kept over all batches, one per text")
    causal_text: bool = _path("CLIP texts cut at their end token, and common beginnings encoded once")
    prompt_chain: bool = _path("common beginnings of prompts encoded once when prompts are compared")

    @classmethod
    def parse(cls, setting: Literal["auto", "off"] | Collection[str]) -> FastPaths:
        """Return the fast paths of a pipeline's setting.

        Args:
            setting: ``"auto"`` for every fast path, ``"off"`` for none, or the names to switch off.

        Raises:
            UnknownNameError: a name is not that of a fast path.
            ConfigError: the setting is a string other than ``"auto"`` and ``"off"``.
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
        """Return a copy with these fast paths switched off.

        Raises:
            UnknownNameError: a name is not that of a fast path.
        """
        for name in names:
            if name not in FAST_PATHS:
                raise UnknownNameError("fast path", name, list(FAST_PATHS))
        return replace(self, **dict.fromkeys(names, False))


AUTO = FastPaths()
"""Every fast path switched on."""

FAST_PATHS: dict[str, str] = {path.name: path.metadata["does"] for path in fields(FastPaths)}
"""Name of a fast path -> what it does."""


def say_not_used(name: str, reason: str) -> None:
    """Log a warning, once per reason, that a fast path is not used and the plain library call is.

    Args:
        name: the fast path.
        reason: why it does not fit, in words.
    """
    if (name, reason) not in _said:
        _said.add((name, reason))
        _logger.warning("fast path %r is not used: %s", name, reason)
