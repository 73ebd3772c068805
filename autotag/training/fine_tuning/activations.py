"""Gradient checkpointing of transformers: activations are computed twice instead of kept."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from autotag.errors import ConfigError


def keep_fewer_activations(model: Any) -> None:
    """Switch on gradient checkpointing in a model of transformers.

    Raises:
        ConfigError: the class does not support it.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(f"{type(model).__name__} does not support gradient checkpointing; leave it off")
    newer = getattr(model, "activation_checkpointing_enable", None)  # the name from transformers 5.24 on
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})
    with suppress(AttributeError):  # there is nothing to take back
        model.disable_input_require_grads()  # which only reentrant checkpoints need, and GIT fails by
