"""Make resized pixels once for all models that need the same ones (``ViewsImages``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from autotag.errors import ImageReadError
from autotag.protocols import ViewsImages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from autotag.protocols import Classifier
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


def probabilities_of(samples: Sequence[Sample], classifier: Classifier) -> NDArray[np.float32]:
    """Return the probability of each label in B samples, from their views if they have them: (B, L)."""
    views = views_of(samples, classifier)
    if views is None:
        return classifier.classify([sample.image for sample in samples])
    probabilities: NDArray[np.float32] = cast("Any", classifier).classify_views(views)
    return probabilities
