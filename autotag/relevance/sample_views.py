"""Make resized pixels once for all models that need the same ones (``ViewsImages``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autotag.errors import ImageReadError
from autotag.protocols import ViewsImages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from autotag.records import Sample


def make_views(
    image: Image.Image, makers: Mapping[str, ViewsImages], source: str
) -> dict[str, NDArray[np.uint8]]:
    """Return view id -> (3, H, W) uint8 pixels of an upright RGB image.

    Args:
        image: upright RGB.
        makers: view id -> a model that makes this view.
        source: the image's name, for the error.

    Raises:
        ImageReadError: a model fails on this image.
    """
    views = {}
    for view_id, maker in makers.items():
        try:
            views[view_id] = maker.view(image)
        except Exception as error:
            cause = f"{type(error).__name__}: {error}"
            raise ImageReadError(source, f"cannot make its view {view_id!r} ({cause})") from error
    return views


def views_of(samples: Sequence[Sample], model: object) -> list[NDArray[np.uint8]] | None:
    """Return each sample's view for this model, (3, H, W) uint8; None unless all samples have it."""
    view_id = model.view_id if isinstance(model, ViewsImages) else None
    if view_id is None or not all(view_id in sample.views for sample in samples):
        return None
    return [sample.views[view_id] for sample in samples]
