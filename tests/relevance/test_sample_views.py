from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from autotag.errors import ImageReadError
from autotag.relevance.sample_views import make_views, views_of
from autotag.testing import FakeCaptioner, make_image, make_sample


class Grey:
    view_id: str | None = "grey"

    def view(self, image: Image.Image, /) -> np.ndarray:
        return np.zeros((3, 1, 1), dtype=np.uint8)


class Broken(Grey):
    def view(self, image: Image.Image, /) -> np.ndarray:
        raise MemoryError


def test_each_maker_makes_its_view() -> None:
    assert list(make_views(make_image(), {"grey": Grey(), "other": Grey()}, "a.png")) == ["grey", "other"]


def test_a_maker_that_fails_is_an_error_of_that_image() -> None:
    with pytest.raises(ImageReadError, match="'a.png': cannot make its view 'grey'") as caught:
        make_views(make_image(), {"grey": Broken()}, "a.png")
    assert isinstance(caught.value.__cause__, MemoryError)


def test_views_are_used_only_where_every_sample_has_the_one_that_the_model_looks_at() -> None:
    one, two = make_sample(), make_sample()
    one.views["grey"] = two.views["grey"] = Grey().view(one.image)
    assert views_of([one, two], Grey()) is not None
    assert views_of([one, two], FakeCaptioner()) is None
    del two.views["grey"]
    assert views_of([one, two], Grey()) is None
    switched_off = Grey()
    switched_off.view_id = None
    assert views_of([one], switched_off) is None
