from __future__ import annotations

from functools import partial

import pytest
import torch

from autotag.training.augmentation import normalized, random_views, resized

PIXELS = torch.randint(0, 256, (40, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
STILL = partial(random_views, size=16, smallest=1.0, jitter=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_views_are_float_squares_between_0_and_1() -> None:
    views = random_views(PIXELS, size=10, smallest=0.5, generator=seeded(), jitter=0.9)
    assert views.dtype == torch.float32
    assert views.shape == (40, 3, 10, 10)
    assert views.min() == 0
    assert views.max() == 1


def test_the_generator_decides_what_is_seen() -> None:
    views = random_views(PIXELS, size=10, smallest=0.5, generator=seeded(1))
    torch.manual_seed(5)
    assert torch.equal(views, random_views(PIXELS, size=10, smallest=0.5, generator=seeded(1)))
    assert not torch.allclose(views, random_views(PIXELS, size=10, smallest=0.5, generator=seeded(2)))


def test_a_whole_view_is_the_photograph_or_its_mirror_image() -> None:
    views, photos = STILL(PIXELS, generator=seeded()), PIXELS.float() / 255
    same = torch.isclose(views, photos, atol=1e-4).flatten(1).all(dim=1)
    mirrored = torch.isclose(views, photos.flip(-1), atol=1e-4).flatten(1).all(dim=1)
    assert (same ^ mirrored).all()
    assert 10 < mirrored.sum() < 30


def test_nothing_is_mirrored_unless_wanted() -> None:
    views = STILL(PIXELS, generator=seeded(), flip=False)
    assert torch.allclose(views, PIXELS.float() / 255, atol=1e-4)


def test_a_crop_keeps_at_least_the_smallest_share_and_stays_inside() -> None:
    ramp = torch.arange(0, 256, 4, dtype=torch.uint8).expand(200, 3, 64, 64)
    views = random_views(ramp, size=64, smallest=0.5, generator=seeded(), flip=False, jitter=0.0)
    shares = (views[:, 0, 0, -1] - views[:, 0, 0, 0]) / ((252 - 0) / 255)
    assert 0.49 <= shares.min() < 0.55
    assert 0.95 < shares.max() <= 1.0
    assert (views[:, 0, 0].diff() > -1e-6).all(), "a reflection at the border was seen"


def test_brightness_and_contrast_change_no_more_than_said() -> None:
    grey = torch.full((300, 3, 4, 4), 100, dtype=torch.uint8)
    views = random_views(grey, size=4, smallest=1.0, generator=seeded(), jitter=0.2)
    ratio = views.mean(dim=(1, 2, 3)) / (100 / 255)
    assert 0.8 - 1e-4 <= ratio.min() < 0.82
    assert 1.18 < ratio.max() <= 1.2 + 1e-4


@pytest.mark.parametrize("size", [8, 16, 24])
def test_resizing_keeps_bytes(size: int) -> None:
    small = resized(PIXELS, size)
    assert small.dtype == torch.uint8
    assert small.shape == (40, 3, size, size)
    assert abs(small.float().mean() - PIXELS.float().mean()) < 2


def test_normalizing_works_channel_by_channel() -> None:
    views = torch.tensor([0.5, 0.25, 1.0]).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    normal = normalized(views, mean=(0.5, 0.0, 0.5), std=(1.0, 0.5, 0.25))
    assert normal[1, :, 2, 2].tolist() == [0.0, 0.5, 2.0]
