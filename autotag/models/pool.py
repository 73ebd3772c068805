"""Loads each model once and lends it."""

from __future__ import annotations

import gc
import sys
from threading import RLock
from typing import TYPE_CHECKING, Any, cast

from autotag import registry
from autotag.errors import ConfigError
from autotag.fast_paths import AUTO, FastPaths
from autotag.models.loading.device import check_placement, choose_device, choose_dtype
from autotag.models.names import ModelAddress, check_model, parse_name
from autotag.protocols import ViewsImages, image_size_of

if TYPE_CHECKING:
    from autotag.protocols import Captioner, Detector, ImageTextEncoder, KeyphraseExtractor, ModelKind


class ModelPool:
    """The models of one pipeline: an ``autotag.protocols.Models``.

    A model that is named is loaded when it is first asked for, once, whichever of its names is used.
    An object is handed back as it is. Safe to use from several threads.

    Args:
        encoder: what ``encoder(None)`` lends; None when the pipeline has none.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        dtype: ``"auto"``, ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        fast_paths: those to use.

    Raises:
        ConfigError: the encoder, device or dtype cannot be right.
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
        if encoder is not None:
            check_model(encoder, "encoder")
        self.default_encoder = encoder
        self.device = device
        self.dtype = dtype
        self._lock = RLock()
        self._loaded: dict[tuple[str, str, str, str | None], object] = {}
        self._lent_image_models: dict[int, object] = {}

    def captioner(self, model: str | Captioner, /) -> Captioner:
        """The captioner of this name, or the object itself."""
        return cast("Captioner", self._lend(model, "captioner"))

    def extractor(self, model: str | KeyphraseExtractor, /) -> KeyphraseExtractor:
        """The keyphrase extractor of this name, or the object itself."""
        return cast("KeyphraseExtractor", self._lend(model, "extractor"))

    def encoder(self, model: str | ImageTextEncoder | None = None, /) -> ImageTextEncoder:
        """The encoder of this name, or the object itself; the pipeline's own for None."""
        wanted = self.default_encoder if model is None else model
        if wanted is None:
            raise ConfigError(
                "a stage asks for the pipeline's encoder, and there is none; name it: encoder=..."
            )
        return cast("ImageTextEncoder", self._lend(wanted, "encoder"))

    def detector(self, model: str | Detector, /) -> Detector:
        """The detector of this name, or the object itself."""
        return cast("Detector", self._lend(model, "detector"))

    @property
    def image_size(self) -> int | None:
        """The side in pixels of the largest square that a lent model looks at.

        None when none is lent, or as soon as one of them does not say: files are then decoded in full.
        """
        with self._lock:
            sizes = [image_size_of(model) for model in self._lent_image_models.values()]
        known = [size for size in sizes if size is not None]
        return max(known) if known and len(known) == len(sizes) else None

    @property
    def view_makers(self) -> dict[str, ViewsImages]:
        """View id -> a lent model that makes this view; what the reading threads make ready."""
        with self._lock:
            lent = [model for model in self._lent_image_models.values() if isinstance(model, ViewsImages)]
        return {model.view_id: model for model in lent if model.view_id is not None}

    def close(self) -> None:
        """Lets go of every model and gives back the accelerator's memory."""
        with self._lock:
            self._loaded.clear()
            self._lent_image_models.clear()
        gc.collect()
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _lend(self, model: object, kind: ModelKind) -> object:
        with self._lock:
            check_model(model, kind)
            lent = self._load(parse_name(model, kind)) if isinstance(model, str) else model
            if kind != "extractor":
                self._lent_image_models[id(lent)] = lent
            return lent

    def _load(self, address: ModelAddress) -> object:
        if address.key not in self._loaded:
            factory: Any = registry.resolve(address.kind, address.factory)
            device = choose_device(self.device)
            loaded = factory(address.request(device, choose_dtype(self.dtype, device), self.fast_paths))
            check_model(loaded, address.kind)
            self._loaded[address.key] = loaded
        return self._loaded[address.key]
