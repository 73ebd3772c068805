from __future__ import annotations

import numpy as np
import torch

from autotag.training.inputs import ChainedInputs, ClassMapInputs, MapInputs, PixelInputs


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def maps(count: int, views: int = 1) -> np.ndarray:
    """Maps of 2 x 2 places and 3 channels; the first channel names the photograph, the second the place."""
    made = np.zeros((count, views, 4, 3), dtype=np.float16)
    made[..., 0] = np.arange(count)[:, None, None]
    made[..., 1] = np.arange(4)
    return made


def test_pixels_become_normalised_crops() -> None:
    pixels = torch.full((2, 3, 40, 40), 255, dtype=torch.uint8)
    inputs = PixelInputs(pixels, size=32, smallest=0.5, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert len(inputs) == 2
    made = inputs(torch.tensor([1, 0, 1]), generator())
    assert made.shape == (3, 3, 32, 32)
    assert made.max() <= 1.0
    assert made.min() > 0.2


def test_maps_are_square_and_half_of_them_mirrored() -> None:
    inputs = MapInputs(maps(3))
    made = inputs(torch.tensor([2] * 40), generator())
    assert made.shape == (40, 3, 2, 2)
    assert made.dtype == torch.float32
    assert set(made[:, 0].flatten().tolist()) == {2.0}
    rows = {tuple(map(int, each[1].flatten().tolist())) for each in made}
    assert rows == {(0, 1, 2, 3), (1, 0, 3, 2)}


def test_chained_inputs_number_on_and_keep_the_order_asked_for() -> None:
    inputs = ChainedInputs([MapInputs(maps(2)), MapInputs(maps(3) + 10)])
    assert len(inputs) == 5
    made = inputs(torch.tensor([4, 0, 2, 1]), generator())
    assert made[:, 0, 0, 0].tolist() == [12.0, 0.0, 10.0, 1.0]


def test_a_synthetic_map_moves_towards_its_class_in_a_rectangle() -> None:
    side = 6
    made = np.ones((4, 1, side * side, 3), dtype=np.float16)
    shifts = torch.tensor([[0.1, 0.0, 0.0], [0.0, 0.1, 0.0]])
    inputs = ClassMapInputs(made, torch.ones(3), shifts)
    assert len(inputs) == 2
    maps = inputs(torch.tensor([0, 1] * 20), generator())
    own = torch.stack([each[number % 2] for number, each in enumerate(maps)])
    other = torch.stack([each[1 - number % 2] for number, each in enumerate(maps)])
    torch.testing.assert_close(other, torch.ones_like(other))
    moved = own > 1.5
    for each in moved:
        rows, columns = each.any(dim=1), each.any(dim=0)
        assert rows.sum() >= side // 2
        assert columns.sum() >= side // 2
        assert each.sum() == rows.sum() * columns.sum(), "a rectangle"
    assert len({tuple(each.flatten().tolist()) for each in moved}) > 10
