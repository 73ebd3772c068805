"""Chooses the captioner class for a transformers model by the ``model_type`` in its configuration."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autotag.errors import ModelLoadError
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
from autotag.models.loading import hub, model_folders

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
    folder = hub.model_folder(request, "captioner", model_folders.TRANSFORMERS)
    model_type = str(model_folders.read_json(request.name, folder / "config.json").get("model_type"))
    if model_type not in _LOADERS:
        raise ModelLoadError(
            request.name,
            f"model {request.name!r}: config.json in {folder} says model_type {model_type!r}. "
            f"Supported: {', '.join(sorted(CLASSES.values()))}.",
        )
    return _LOADERS[model_type](replace(request, location=str(folder), revision=None))
