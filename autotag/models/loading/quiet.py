"""Silences the libraries' messages while a model loads."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def no_chatter() -> Iterator[None]:
    """Hide the messages and loading bars of transformers, and restore all settings afterwards.

    open_clip logs through the root logger, which installs a handler on first use; it is removed, too.
    """
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from transformers.utils import logging as module

    transformers_logging: Any = module

    verbosity = transformers_logging.get_verbosity()
    loading_bars = transformers_logging.is_progress_bar_enabled()
    download_bars = not are_progress_bars_disabled()
    handlers = list(logging.root.handlers)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if loading_bars:
            transformers_logging.enable_progress_bar()
        if download_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()
        logging.root.handlers[:] = handlers
