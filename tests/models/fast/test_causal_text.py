from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from autotag.config import fast_paths
from autotag.config.fast_paths import FastPaths
from autotag.models.fast import causal_text, shared_starts
from autotag.models.pool import ModelPool

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

FOLDERS = ["open_clip_folder", "open_clip_folder/timm", "clip"]
TEXTS = ["a dog", "blue", "a photo of a dog that runs on the green grass " * 4, "two men", "", "a dog"]


@pytest.mark.parametrize("name", FOLDERS)
def test_texts_cut_at_their_end_give_the_vectors_of_the_plain_call(
    tiny_folder: Callable[[str], Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(tiny_folder(name))
    expected = ModelPool(device="cpu", fast_paths=FastPaths.parse("off")).encoder(folder).embed_texts(TEXTS)
    fast = ModelPool(device="cpu").encoder(folder)

    for tokens in (1024, 4):
        monkeypatch.setattr(causal_text, "_TOKENS_ON_CPU", tokens)
        np.testing.assert_allclose(fast.embed_texts(TEXTS), expected, atol=2e-6)


TAGS = ["dog", "dog running", "dog running", "", "two dogs", "red", "dog run", "blue sky and red grass"]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["open_clip_folder", "clip"])
def test_texts_that_begin_alike_give_the_same_vectors_read_together(
    tiny_folder: Callable[[str], Path], name: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"a photo of {tag}" for tag in TAGS]
    encoder: Any = ModelPool(device="cpu", dtype=dtype).encoder(str(tiny_folder(name)))
    plain: Any = ModelPool(device="cpu", dtype=dtype, fast_paths=FastPaths.parse("off")).encoder(
        str(tiny_folder(name))
    )
    calls = []

    def counted(*given: Any, **named: Any) -> torch.Tensor:
        calls.append(given)
        return shared_starts.vectors_of(*given, **named)

    monkeypatch.setattr(causal_text, "vectors_of", counted)
    monkeypatch.setattr(causal_text, "_LONGEST_SHARED", 100)
    for tokens in (1024, 12):
        monkeypatch.setattr(causal_text, "_TOKENS_ON_CPU", tokens)
        given = encoder.embed_texts(texts)
        np.testing.assert_allclose(given, plain.embed_texts(texts), atol=2e-6 if dtype == "float32" else 2e-2)

    assert len(calls) == 2
    assert encoder.embed_texts([]).shape == (0, given.shape[1])


def test_texts_that_share_little_or_are_long_are_read_one_by_one() -> None:
    assert causal_text._share_much([[1, 2, 3, 9], [1, 2, 4, 9], [1, 2, 5, 9]])
    assert not causal_text._share_much([[1, 9]])
    assert not causal_text._share_much([[1, 2, 3, 4, 5, 9], [1, 6, 7, 8, 5, 9]])
    assert not causal_text._share_much([[*range(100), 9]] * 5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"finish": lambda states: states.sin()}, "gives other vectors"),
        ({"finish": lambda states: states[:, :1]}, "gives other vectors"),
        ({"layers": (None,)}, "cannot encode common beginnings"),
    ],
)
def test_a_tower_that_reads_otherwise_together_is_noticed(
    tiny_folder: Callable[[str], Path],
    change: dict[str, Any],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    encoder: Any = ModelPool(device="cpu").encoder(str(tiny_folder("clip")))
    text = encoder._causal_text
    assert text.tower is not None
    probe = encoder.text_inputs(causal_text.PROBE)["input_ids"]

    one_by_one = replace(text, tower=None)
    found = causal_text.with_shared_starts(one_by_one, replace(text.tower, **change), probe)

    assert found is one_by_one
    assert "'causal_text' is not used" in caplog.text
    assert reason in caplog.text


def test_no_token_after_the_end_is_calculated() -> None:
    lengths = []

    def calculate(ids: torch.Tensor) -> torch.Tensor:
        lengths.append(ids.shape)
        return ids[:, -1:].float()

    tokens = torch.tensor([[1, 9, 0, 0], [1, 5, 9, 0], [2, 9, 0, 0], [1, 2, 3, 4]])
    assert causal_text.CausalText(calculate, 9, torch.device("cpu"))(tokens).tolist() == [[9], [9], [9], [1]]
    assert sorted(lengths) == [(1, 1), (1, 3), (2, 2)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"attn_mask": None}, "not causal"),
        ({"text_pool_type": "last", "pool_type": "last"}, "pools by 'last'"),
        ({"ln_final": torch.nn.Identity()}, "other vectors"),
    ],
)
def test_another_tower_is_noticed(
    tiny_folder: Callable[[str], Path],
    change: dict[str, Any],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fast_paths, "_said", set())
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse("off")).encoder(
        str(tiny_folder("open_clip_folder"))
    )
    tokens = plain.tokenizer(list(causal_text.PROBE))
    expected = plain.model.encode_text(tokens)
    tower = getattr(plain.model, "text", plain.model)
    for name, value in change.items():
        if hasattr(tower, name):
            setattr(tower, name, value)
    monkeypatch.setattr(plain.model, "encode_text", lambda _: expected)

    assert causal_text.causal_text_of_open_clip(plain.model, tokens) is None
    assert "'causal_text' is not used" in caplog.text
    assert reason in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("name", [*FOLDERS, "siglip"])
def test_views_give_what_images_give_and_about_what_the_plain_path_gives(
    tiny_folder: Callable[[str], Path], images: list[Image.Image], name: str
) -> None:
    fast: Any = ModelPool(device="cpu").encoder(str(tiny_folder(name)))
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse(["views"])).encoder(
        str(tiny_folder(name))
    )

    views = [fast.view(image) for image in images]
    assert fast.view_id
    assert plain.view_id is None
    np.testing.assert_array_equal(fast.embed_views(views), fast.embed_images(images))
    np.testing.assert_allclose(fast.embed_images(images), plain.embed_images(images), atol=5e-3)
