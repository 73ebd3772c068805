"""Loads each model of a pipeline once and gives it to the stages."""

from __future__ import annotations

import gc
import sys
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

from autotag.config import registry
from autotag.config.fast_paths import AUTO, FastPaths
from autotag.errors import ConfigError
from autotag.models.loading.device import check_placement, choose_device, choose_dtype
from autotag.models.names import ModelAddress, ModelName, check_model
from autotag.protocols import ViewsImages, image_size_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from autotag.protocols import (
        Captioner,
        Classifier,
        Detector,
        ImageTextEncoder,
        KeyphraseExtractor,
        ModelKind,
        Translator,
    )


_LOADING = RLock()
"""Held while any pool loads: transformers replaces methods of its classes meanwhile, for all threads."""


class ModelPool:
    """Keep the models of one pipeline; an ``autotag.protocols.Models``.

    A named model is loaded on first use, and only once even if it is asked for by several names.
    A model object is returned as it is. Safe to use from several threads.

    Args:
        encoder: the encoder that ``encoder(None)`` returns; None when the pipeline has none.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"``, ``"float16"`` or ``"int8"`` (on a CPU).
        fast_paths: the fast paths to use.

    Raises:
        ConfigError: the encoder, device or dtype is not valid.
        ModelUnavailableError: the encoder is a folder that does not exist.
    """

    def __init__(
        self,
        *,
        encoder: str | ImageTextEncoder | None = None,
        device: str = "auto",
        dtype: str = "auto",
        fast_paths: FastPaths = AUTO,
    ) -> None:
        check_placement(device, dtype)
        self.fast_paths = fast_paths
        self.default_encoder = None if encoder is None else check_model(encoder, "encoder")
        self.device = device
        self.dtype = dtype
        self._lock = RLock()
        self._loaded: dict[tuple[str, str, str, str | None], object] = {}
        self._image_models_in_use: dict[int, object] = {}

    def captioner(self, model: str | Captioner, /) -> Captioner:
        """Return the captioner with this name, or the object itself."""
        return cast("Captioner", self._get(model, "captioner"))

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        """Return the keyphrase extractor with this name, or the object itself."""
        return cast("KeyphraseExtractor", self._get(model, "extractor"))

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        """Return the encoder with this name, or the object itself; the pipeline's own for None."""
        wanted = self.default_encoder if model is None else model
        if wanted is None:
            raise ConfigError(
                "a stage asks for the pipeline's encoder, and there is none; name it: encoder=..."
            )
        return cast("ImageTextEncoder", self._get(wanted, "encoder"))

    def detector(self, model: str | Detector, /) -> Detector:
        """Return the detector with this name, or the object itself."""
        return cast("Detector", self._get(model, "detector"))

    def classifier(self, model: str | Classifier, /) -> Classifier:
        """Return the classifier with this name, or the object itself."""
        return cast("Classifier", self._get(model, "classifier"))

    def translator(self, model: str | Translator, /) -> Translator:
        """Return the translator with this name, or the object itself."""
        return cast("Translator", self._get(model, "translator"))

    @property
    def image_size(self) -> int | None:
        """Return the side in pixels of the largest square input among the models in use.

        None when no model is in use, or when one of them does not tell its size: files are then decoded in
        full.
        """
        with self._lock:
            sizes = [image_size_of(model) for model in self._image_models_in_use.values()]
        known = [size for size in sizes if size is not None]
        return max(known) if known and len(known) == len(sizes) else None

    @property
    def view_makers(self) -> dict[str, ViewsImages]:
        """Return view id -> a model in use that makes this view; the reading threads prepare these views."""
        with self._lock:
            models = [model for model in self._image_models_in_use.values() if isinstance(model, ViewsImages)]
        return {model.view_id: model for model in models if model.view_id is not None}

    def close(self) -> None:
        """Release every model and free the accelerator's memory."""
        with self._lock:
            self._loaded.clear()
            self._image_models_in_use.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _get(self, model: object, kind: ModelKind) -> object:
        with self._lock:
            wanted = check_model(model, kind)
            found = self._load(wanted.address) if isinstance(wanted, ModelName) else wanted
            if kind not in {"extractor", "translator"}:
                self._image_models_in_use[id(found)] = found
            return found

    def _load(self, address: ModelAddress) -> object:
        if address.key not in self._loaded:
            factory: Any = registry.resolve(address.kind, address.factory)
            device = choose_device(self.device)
            with _LOADING, _random_state_kept():
                loaded = factory(address.request(device, choose_dtype(self.dtype, device), self.fast_paths))
            check_model(loaded, address.kind)
            self._loaded[address.key] = loaded
        return self._loaded[address.key]


def _random_state_kept() -> AbstractContextManager[None]:
    """Return a context that leaves torch's random numbers as they were; new models draw some on the CPU."""
    import torch

    return torch.random.fork_rng(devices=[])
