from __future__ import annotations

import importlib
from importlib.metadata import version

import pytest

import autotag

TYPED_BY_USERS = {
    "Index",
    "Pipeline",
    "Vocabulary",
    "__version__",
    "errors",
    "find_images",
    "load",
    "records",
    "serve_async",
    "stage",
    "tag",
    "to_pandas",
}


def test_autotag_offers_exactly_what_users_type() -> None:
    assert set(autotag.__all__) == set(dir(autotag)) == TYPED_BY_USERS


@pytest.mark.parametrize("name", sorted(TYPED_BY_USERS))
def test_each_name_is_there(name: str) -> None:
    assert getattr(autotag, name) is not None


def test_each_name_is_the_one_of_its_module() -> None:
    for name, home in autotag._HOMES.items():
        assert getattr(autotag, name) is getattr(importlib.import_module(home), name)


def test_the_version_is_that_of_the_installed_package() -> None:
    assert autotag.__version__ == version("autotag-images")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'autotag' has no attribute 'tags'"):
        autotag.tags  # noqa: B018


@pytest.mark.parametrize("module", ["autotag.stages", "autotag.testing"])
def test_what_a_module_offers_is_there(module: str) -> None:
    found = importlib.import_module(module)
    assert all(hasattr(found, name) for name in found.__all__)
