from __future__ import annotations

import itertools
import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from keybert import KeyBERT
from sentence_transformers import SentenceTransformer

from autotag.config import fast_paths
from autotag.config.fast_paths import FastPaths
from autotag.errors import ConfigError, ModelLoadError
from autotag.models.extractors.keybert_extractor import KeybertExtractor
from autotag.models.pool import ModelPool
from autotag.protocols import KeyphraseExtractor, KeyphraseOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NGRAMS = KeyphraseOptions(candidates="ngrams")
SMILES = "the players are all smiles as they walk on the field"
TEXTS = [SMILES, "a city skyline.", "", "the and of", "two dogs play with a red ball in the snow"]


@pytest.fixture(scope="module")
def real(minilm: Path) -> Any:
    return ModelPool(device="cpu").extractor(str(minilm))


@pytest.fixture(scope="module")
def plain(minilm: Path) -> Any:
    return ModelPool(
        device="cpu", fast_paths=FastPaths.parse(["keyphrase_vectors", "packed_linears"])
    ).extractor(str(minilm))


@pytest.fixture(scope="module")
def static(tiny_folder: Callable[[str], Path]) -> Any:
    return ModelPool(device="cpu").extractor(str(tiny_folder("sentence_transformer")))


def _phrases(keyphrases: list[tuple[str, float]]) -> list[str]:
    return [phrase for phrase, _ in keyphrases]


def _assert_same(found: list[Any], expected: list[Any]) -> None:
    """The same keyphrases in the same order; scores, rounded to 4 digits, may fall on either side."""
    assert [_phrases(row) for row in found] == [_phrases(row) for row in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose([score for _, score in one], [score for _, score in other], atol=1.1e-4)


def _captions(count: int) -> list[str]:
    """Captions by a small grammar, each another."""
    parts = [
        ["a man", "two young women", "a group of children", "the old fisherman", "a black and white dog"],
        ["rides", "is looking at", "jumps over", "sits beside", "carries"],
        ["a red bicycle", "an orange kayak", "the wooden fence", "three colorful umbrellas", "a café table"],
        ["on a snowy mountain trail", "in front of a brick building", "near the ocean at sunset",
         "during a football game", "under a stone bridge", "while people watch"],
    ]  # fmt: skip
    every = [" ".join(words) + " ." for words in itertools.product(*parts)]
    return random.Random(0).sample(every, count)  # noqa: S311  any sample will do


@pytest.mark.slow
@pytest.mark.parametrize("options", [NGRAMS, KeyphraseOptions(candidates="ngrams", diversity=0.5)])
def test_three_hundred_captions_in_batches_give_the_lists_of_keybert(
    real: Any, minilm: Path, options: KeyphraseOptions
) -> None:
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse("off")).extractor(str(minilm))
    captions = _captions(300)

    found = [
        row for start in range(0, 300, 100) for row in real.extract(captions[start : start + 100], options)
    ]
    _assert_same(found, plain.extract(captions, options))


def test_both_ways_are_taken(real: Any, static: Any, minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = ModelPool(device="cpu", fast_paths=FastPaths.parse(["keyphrase_vectors"])).extractor(
        str(minilm)
    )
    calls = []
    monkeypatch.setattr(KeyBERT, "extract_keywords", lambda *_, **__: calls.append(1) or [])

    for fast in (real, static):
        assert len(fast.extract(["a new dog"], NGRAMS)[0]) == 3
    assert calls == []
    assert plain.extract(["a new dog"], NGRAMS) == [[]]
    assert calls == [1]


def test_a_text_seen_before_is_not_embedded_again(minilm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor: Any = ModelPool(device="cpu").extractor(str(minilm))
    first = extractor.extract(TEXTS, NGRAMS)
    monkeypatch.setattr(extractor.model, "forward", None)

    assert extractor.extract(TEXTS[::-1], NGRAMS) == first[::-1]


def test_another_keybert_is_noticed(
    minilm: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plain = KeyBERT.extract_keywords
    monkeypatch.setattr(fast_paths, "_said", set())
    monkeypatch.setattr(KeyBERT, "extract_keywords", lambda *args, **more: plain(*args, **more)[::-1])

    extractor: Any = ModelPool(device="cpu").extractor(str(minilm))
    assert "'keyphrase_vectors' is not used: this release of KeyBERT" in caplog.text
    assert extractor.extract([SMILES], NGRAMS)[0][-1][0] == "players smiles"


@pytest.mark.parametrize("candidates", ["ngrams", "phrases"])
def test_options_out_of_range_are_refused(static: Any, candidates: Any) -> None:
    with pytest.raises(ConfigError, match="ngram_range"):
        static.extract(["a dog"], KeyphraseOptions(candidates=candidates, ngram_range=(2, 1)))
    with pytest.raises(ConfigError, match="stop_words"):
        static.extract(["a dog"], KeyphraseOptions(candidates=candidates, stop_words="klingon"))


def test_it_is_an_extractor(static: Any) -> None:
    assert isinstance(static, KeyphraseExtractor)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMILES, ["players smiles", "smiles walk", "walk field", "players", "smiles"]),
        ("a city skyline.", ["city skyline", "skyline", "city"]),
    ],
)
def test_ngrams_of_the_real_minilm_are_the_known_ones(real: Any, text: str, expected: list[str]) -> None:
    assert _phrases(real.extract([text], NGRAMS)[0]) == expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        (NGRAMS, {}),
        (
            KeyphraseOptions(candidates="ngrams", ngram_range=(1, 3), top_n=8),
            {"keyphrase_ngram_range": (1, 3), "top_n": 8},
        ),
        (KeyphraseOptions(candidates="ngrams", diversity=0.6), {"use_mmr": True, "diversity": 0.6}),
        (KeyphraseOptions(candidates="ngrams", diversity=0.0), {"use_mmr": True, "diversity": 0.0}),
        (KeyphraseOptions(candidates="ngrams", stop_words=None), {"stop_words": None}),
        (KeyphraseOptions(candidates="ngrams", stop_words=("the", "city")), {"stop_words": ["the", "city"]}),
    ],
)
def test_ngrams_are_exactly_keybert(
    real: Any, plain: Any, minilm: Path, options: KeyphraseOptions, keywords: dict[str, Any]
) -> None:
    keybert = KeyBERT(SentenceTransformer(str(minilm), device="cpu"))
    asked = {"keyphrase_ngram_range": (1, 2), "stop_words": "english", "top_n": 5, **keywords}

    expected = keybert.extract_keywords(TEXTS, **asked)
    assert plain.extract(TEXTS, options) == expected
    _assert_same(real.extract(TEXTS, options), expected)


@pytest.mark.parametrize("texts", [[""], ["the"], ["", "the"], []])
@pytest.mark.parametrize("candidates", ["ngrams", "phrases"])
def test_texts_without_candidates_give_empty_lists_each(
    static: Any, texts: list[str], candidates: Any
) -> None:
    assert static.extract(texts, KeyphraseOptions(candidates=candidates)) == [[] for _ in texts]


@pytest.mark.parametrize("candidates", ["ngrams", "phrases"])
@pytest.mark.parametrize("diversity", [None, 0.5])
def test_a_batch_gives_what_its_texts_give_alone(real: Any, candidates: Any, diversity: float | None) -> None:
    options = KeyphraseOptions(candidates=candidates, diversity=diversity)

    together = real.extract(TEXTS, options)
    alone = [real.extract([text], options)[0] for text in TEXTS]
    assert [_phrases(row) for row in together] == [_phrases(row) for row in alone]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose([score for _, score in one], [score for _, score in other], atol=2e-4)


def test_phrases_are_real_ones_scored_as_keybert_scores_them(real: Any) -> None:
    phrases = dict(real.extract([SMILES], KeyphraseOptions())[0])
    ngrams = dict(real.extract([SMILES], KeyphraseOptions(candidates="ngrams", top_n=50))[0])

    assert phrases
    assert not phrases.keys() & {"players smiles", "smiles walk", "walk field"}
    for phrase in phrases.keys() & ngrams.keys():
        assert phrases[phrase] == pytest.approx(ngrams[phrase], abs=2e-4)


def test_phrases_come_best_first_and_no_more_than_asked(real: Any) -> None:
    [keyphrases] = real.extract([TEXTS[-1]], KeyphraseOptions(top_n=3))

    scores = [score for _, score in keyphrases]
    assert len(keyphrases) == 3
    assert scores == sorted(scores, reverse=True)


def test_phrases_with_diversity_choose_as_keybert_does(real: Any, minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    from autotag.language.phrases import phrase_candidates

    text = "a black dog and a brown dog play with a red ball near two small dogs"
    candidates = sorted(phrase_candidates(text, ngram_range=(1, 2), stop_words="english"))
    keybert = KeyBERT(SentenceTransformer(str(minilm), device="cpu"))
    for diversity in (0.3, 0.7):
        expected = keybert.extract_keywords(
            text, candidates=candidates, keyphrase_ngram_range=(1, 2), stop_words=None,
            use_mmr=True, diversity=diversity,
        )  # fmt: skip
        [chosen] = real.extract([text], KeyphraseOptions(diversity=diversity))
        assert _phrases(chosen) == _phrases(expected)


def test_it_calculates_in_float32_whatever_is_asked(tiny_folder: Callable[[str], Path]) -> None:
    folder = str(tiny_folder("sentence_transformer"))

    half = ModelPool(device="cpu", dtype="float16").extractor(folder)
    full = ModelPool(device="cpu").extractor(folder)
    assert half.extract(TEXTS, NGRAMS) == full.extract(TEXTS, NGRAMS)


@pytest.mark.slow
def test_importing_it_leaves_warning_filters_and_logging_alone() -> None:
    script = (
        "import logging, sys, warnings\n"
        "import sentence_transformers\n"
        "before = list(warnings.filters), list(logging.root.handlers)\n"
        "import autotag.models.extractors.keybert_extractor\n"
        "assert 'keybert' in sys.modules\n"
        "assert before == (list(warnings.filters), list(logging.root.handlers)), 'settings changed'\n"
    )

    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("file", ["tokenizer.json", "model.safetensors"])
def test_a_missing_part_is_named(tiny_folder: Callable[[str], Path], tmp_path: Path, file: str) -> None:
    folder = shutil.copytree(tiny_folder("sentence_transformer"), tmp_path / "spoilt")
    (folder / file).unlink()

    with pytest.raises(ModelLoadError, match=f"{folder} has no .*{file}"):
        ModelPool(device="cpu").extractor(str(folder))


def test_damaged_weights_name_folder_and_file(tiny_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder("sentence_transformer"), tmp_path / "spoilt")
    (folder / "model.safetensors").write_bytes(b"spoilt")

    with pytest.raises(ModelLoadError, match=f"model.safetensors in folder {folder} is damaged"):
        ModelPool(device="cpu").extractor(str(folder))


def test_a_model_that_is_handed_in_keeps_its_weights(minilm: Path) -> None:
    model = SentenceTransformer(str(minilm), device="cpu")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    KeybertExtractor(model).extract([SMILES], NGRAMS)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.parametrize("family", ["clip", "blip", "vit_gpt2"])
def test_a_model_that_looks_at_images_is_refused(tiny_folder: Callable[[str], Path], family: str) -> None:
    with pytest.raises(ModelLoadError, match=r"looks at images .*; an extractor needs a sentence-transf"):
        ModelPool(device="cpu").extractor(str(tiny_folder(family)))
