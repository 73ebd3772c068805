from __future__ import annotations

import torch

from autotag.training.blank import blank_pictures


def test_pictures_are_plain_graded_striped_and_noisy_in_turn() -> None:
    pictures = blank_pictures(8, size=64, seed=0)
    assert pictures.shape == (8, 3, 64, 64)
    assert pictures.dtype == torch.uint8
    for plain in pictures[::4]:
        assert len(plain.flatten(1).unique(dim=1).T) == 1
    for striped in pictures[2::4]:
        assert len(striped.flatten(1).unique(dim=1).T) == 2
    assert not torch.equal(pictures[0], pictures[4])


def test_the_seed_decides() -> None:
    assert torch.equal(blank_pictures(4, size=16, seed=3), blank_pictures(4, size=16, seed=3))
    assert not torch.equal(blank_pictures(4, size=16, seed=3), blank_pictures(4, size=16, seed=4))
