"""Chooses the captioner class for a transformers model by the ``model_type`` in its configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.models.captioners import (
    blip_captioner,
    chat_captioner,
    encoder_decoder_captioner,
    florence_captioner,
)
from autotag.models.captioners.blip_captioner import HfCaptioner
from autotag.models.captioners.chat_captioner import ChatCaptioner
from autotag.models.captioners.encoder_decoder_captioner import EncoderDecoderCaptioner
from autotag.models.captioners.florence_captioner import FlorenceCaptioner
from autotag.models.loading import model_folders
from autotag.models.loading.family import load_by_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from autotag.protocols import Captioner, ModelRequest

CLASSES = {
    **blip_captioner.CLASSES,
    **florence_captioner.CLASSES,
    **encoder_decoder_captioner.CLASSES,
    **chat_captioner.CLASSES,
}
"""``model_type`` of a configuration -> the transformers class that is loaded for it."""

_LOADERS: dict[str, Callable[[ModelRequest], Captioner]] = {
    **dict.fromkeys(blip_captioner.CLASSES, HfCaptioner.load),
    **dict.fromkeys(florence_captioner.CLASSES, FlorenceCaptioner.load),
    **dict.fromkeys(encoder_decoder_captioner.CLASSES, EncoderDecoderCaptioner.load),
    **dict.fromkeys(chat_captioner.CLASSES, ChatCaptioner.load),
}


def load(request: ModelRequest) -> Captioner:
    """Load the captioner from a folder or hub repository, with the class of its family.

    Raises:
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, incomplete, or of a class that is not supported.
    """
    return load_by_type(request, "captioner", model_folders.TRANSFORMERS, _LOADERS, CLASSES.values())
