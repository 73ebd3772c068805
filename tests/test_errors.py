from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from autotag import errors
from autotag.errors import (
    AutotagError,
    ClusterError,
    ConfigError,
    DuplicateNameError,
    FileBusyError,
    FileChangedError,
    ForkedProcessError,
    ImageReadError,
    ImageTooLargeError,
    MetadataError,
    ModelError,
    ModelLoadError,
    ModelUnavailableError,
    PhotoServerError,
    PipelineClosedError,
    RequestRefusedError,
    SearchIndexError,
    StageBrokenError,
    StageError,
    UnknownNameError,
    UrlRefusedError,
    WiringError,
    suggestion,
)

EXAMPLES = [
    ConfigError("wrong"),
    UnknownNameError("stage", "filter_tag", ["filter_tags", "merge_tags"]),
    DuplicateNameError("stage", "mine", ("one:x (a)", "two:y (b)")),
    WiringError("wrong"),
    ImageReadError("a.jpg", "it is empty"),
    ImageTooLargeError("a.jpg", "it is large", "set max_pixels"),
    UrlRefusedError("file:///a", "not http(s)"),
    ModelError("blip-base", "wrong"),
    ModelUnavailableError("blip-base", "not here", looked_in=Path("folder"), download_size=990),
    ModelLoadError("blip-base", "damaged"),
    StageError("filter_tags", "a.jpg", "failed"),
    StageBrokenError("filter_tags", "a.jpg", "broken"),
    PipelineClosedError("closed"),
    ForkedProcessError(),
    RequestRefusedError("overloaded", "too much is waiting", 3),
    SearchIndexError("index.db", "it is damaged"),
    PhotoServerError("http://immich:2283", "it does not accept the API key", 401),
    ClusterError("Ray ended the job: a worker died"),
    MetadataError("a.jpg", "it is read-only"),
    FileChangedError("a.jpg", "it changed since it was read"),
    FileBusyError("a.jpg", "another run is writing it"),
]


def test_every_error_has_an_example_here_and_a_line_in_the_tree() -> None:
    found = {
        name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, AutotagError)
    }
    assert found == {type(example).__name__ for example in EXAMPLES} | {"AutotagError"}
    assert all(name in str(errors.__doc__) for name in found)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_a_process_boundary_with_its_facts(error: AutotagError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_an_unknown_name_is_also_a_key_error_with_a_plain_message() -> None:
    error = UnknownNameError("stage", "filter_tag", ["filter_tags"])
    assert isinstance(error, KeyError)
    assert str(error) == "unknown stage 'filter_tag'. Did you mean 'filter_tags'?"


def test_a_near_miss_is_suggested_and_otherwise_what_is_known_is_listed() -> None:
    assert suggestion("treshold", ["threshold", "top_k"]) == "Did you mean 'threshold'?"
    assert suggestion("xyz", ["threshold", "top_k"]) == "Known: threshold, top_k."
    assert suggestion("xyz", []) == "Nothing is registered."
