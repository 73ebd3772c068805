from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from platformdirs import user_cache_path

from autotag.models.pool import ModelPool
from autotag.relevance.label_matrix import (
    NOT_SHIPPED,
    SHIPPED,
    cache_folder,
    label_matrix,
    matrix_key,
    write_matrix,
)
from autotag.testing import FakeEncoder
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

LABELS = [f"label {number}" for number in range(300)]


@pytest.fixture(scope="module")
def clip_mini():
    return ModelPool(device="cpu").encoder("clip-mini")


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_long_list_is_embedded_once(tmp_path):
    encoder = FakeEncoder()
    first = label_matrix(encoder, LABELS, folder=tmp_path)
    again = label_matrix(encoder, LABELS, folder=tmp_path)
    assert sum(encoder.text_batches) == 300
    np.testing.assert_array_equal(first.vectors, again.vectors)
    assert again.labels == tuple(LABELS)


def test_long_lists_are_embedded_in_batches(tmp_path):
    encoder = FakeEncoder()
    assert label_matrix(encoder, LABELS * 4, folder=tmp_path).vectors.shape == (1200, 65)
    assert encoder.text_batches == [1024, 176]


@pytest.mark.parametrize(
    "other",
    [
        ("other", LABELS, "{}"),
        ("fake", LABELS[::-1], "{}"),
        ("fake", LABELS[:-1], "{}"),
        ("fake", LABELS, "a {}"),
        ("fake", ["label 0label 1", *LABELS[2:]], "{}"),
    ],
)
def test_encoder_labels_and_template_each_tell_matrices_apart(other):
    assert matrix_key(*other) != matrix_key("fake", LABELS, "{}")


def test_an_encoder_of_another_precision_has_a_file_of_its_own(tmp_path):
    class Half(FakeEncoder):
        dtype = "float16"

    half = Half()
    label_matrix(FakeEncoder(), LABELS, folder=tmp_path)
    label_matrix(half, LABELS, folder=tmp_path)
    assert sum(half.text_batches) == 300
    assert len(files(tmp_path)) == 2


def test_the_template_is_filled(tmp_path):
    encoder = FakeEncoder()
    matrix = label_matrix(encoder, ["dog"], template="a photo of {}", folder=tmp_path)
    np.testing.assert_array_equal(matrix.vectors, encoder.embed_texts(["a photo of dog"]))


def test_a_short_list_leaves_no_file_and_an_empty_one_has_no_scores(tmp_path):
    assert label_matrix(FakeEncoder(), ["dog", "cat"], folder=tmp_path).vectors.shape == (2, 65)
    empty = label_matrix(FakeEncoder(), [], folder=tmp_path)
    assert empty.similarities(np.zeros((3, 65), dtype=np.float32)).shape == (3, 0)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not a matrix" * 100),
        lambda path: np.save(path, np.zeros((300, 65), dtype=np.float32)),
        lambda path: np.save(path, np.ones((299, 65), dtype=np.float32)),
        lambda path: np.save(path, np.ones((300, 65))),
        lambda path: np.save(path, np.array([{"a": 1}]), allow_pickle=True),
    ],
    ids=["cut short", "empty", "other", "zeros", "other length", "other kind", "pickled"],
)
def test_a_damaged_file_is_computed_again_and_said_so(tmp_path, caplog, damage):
    first = label_matrix(FakeEncoder(), LABELS, folder=tmp_path)
    wanted = np.array(first.vectors)
    del first
    [path] = tmp_path.iterdir()
    damage(path)
    encoder = FakeEncoder()
    np.testing.assert_array_equal(label_matrix(encoder, LABELS, folder=tmp_path).vectors, wanted)
    assert sum(encoder.text_batches) == 300
    assert "is damaged; it is computed again" in caplog.text
    np.testing.assert_array_equal(np.load(path), wanted)


def test_the_cache_keeps_what_was_used_last_and_stays_below_its_bound(tmp_path, monkeypatch):
    encoder = FakeEncoder()
    lists = [[f"{label} {number}" for label in LABELS] for number in range(4)]
    label_matrix(encoder, lists[0], folder=tmp_path)
    [first] = tmp_path.iterdir()
    monkeypatch.setattr("autotag.relevance.label_matrix._MOST_BYTES", 3 * first.stat().st_size)
    os.utime(first, (1, 1))
    for age, labels in enumerate(lists[1:3], 2):
        before = set(tmp_path.iterdir())
        label_matrix(encoder, labels, folder=tmp_path)
        [new] = set(tmp_path.iterdir()) - before
        os.utime(new, (age, age))
    label_matrix(encoder, lists[0], folder=tmp_path)  # used again
    label_matrix(encoder, lists[3], folder=tmp_path)
    kept = {path.stem for path in tmp_path.iterdir()}
    assert kept == {matrix_key("fake", labels, "{}") for labels in (lists[0], lists[3])}


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    matrix = label_matrix(FakeEncoder(), LABELS, folder=blocked / "labels")
    assert matrix.vectors.shape == (300, 65)
    assert "cannot write to" in caplog.text


@pytest.mark.parametrize(
    "refused",
    [
        "autotag.files.system_calls.SystemCalls.open",
        "autotag.files.system_calls.SystemCalls.fsync",
        "autotag.files.system_calls.SystemCalls.replace",
        "pathlib.Path.mkdir",
    ],
)
def test_a_read_only_folder_costs_one_warning_and_leaves_nothing(tmp_path, caplog, monkeypatch, refused):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(refused, refuse)
    encoder = FakeEncoder()
    for _ in range(2):
        matrix = label_matrix(encoder, LABELS, folder=tmp_path)
        np.testing.assert_array_equal(matrix.vectors, FakeEncoder().embed_texts(LABELS))
    [record] = caplog.records
    assert record.getMessage() == (
        f"label matrices are not cached, so each run computes them again: cannot write to {tmp_path} "
        "(Permission denied); set AUTOTAG_CACHE to another folder"
    )
    assert files(tmp_path) == []


COMPUTE = """
import sys
from pathlib import Path
from autotag.relevance.label_matrix import label_matrix
from autotag.models.pool import ModelPool
from autotag.testing import FakeEncoder
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

label_matrix(FakeEncoder(), [f"label {number}" for number in range(300)], folder=Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_processes_that_compute_it_at_once_leave_one_whole_file(tmp_path):
    command = [sys.executable, "-c", COMPUTE, str(tmp_path)]
    processes = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(600) for process in processes] == [0, 0, 0]
    assert files(tmp_path) == [f"{matrix_key('fake', LABELS, '{}')}.npy"]
    encoder = FakeEncoder()
    label_matrix(encoder, LABELS, folder=tmp_path)
    assert encoder.text_batches == []


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("AUTOTAG_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "labels"
    monkeypatch.delenv("AUTOTAG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "autotag" / "labels"
    assert cache_folder() == user_cache_path("autotag", appauthor=False) / "labels"


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in BUNDLED if name not in NOT_SHIPPED])
def test_the_vectors_of_bundled_vocabularies_come_with_autotag(name, clip_mini, tmp_path, monkeypatch):
    vocabulary = Vocabulary.bundled(name)
    names, template = vocabulary.all_names(), vocabulary.template
    computed = np.load(write_matrix(clip_mini, names, tmp_path, template=template))
    monkeypatch.setattr(clip_mini, "embed_texts", lambda _: pytest.fail("it embeds what is there"))
    found = label_matrix(clip_mini, names, template=template, folder=tmp_path / "cache")
    assert found.vectors.dtype == np.float32
    np.testing.assert_allclose(found.vectors, computed, atol=1e-3)


def test_nothing_else_is_shipped(clip_mini):
    bundled = [Vocabulary.bundled(name) for name in BUNDLED if name not in NOT_SHIPPED]
    keys = {matrix_key(clip_mini.id, one.all_names(), one.template) for one in bundled}
    assert {path.stem for path in SHIPPED.glob("*.npy")} == keys
