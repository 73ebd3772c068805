from __future__ import annotations

import numpy as np
import open_clip
import pytest
import torch

from autotag.config.fast_paths import FastPaths
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.fast.text_reader import text_reader
from autotag.models.pool import ModelPool
from autotag.prompts import prefix_scorer
from autotag.prompts.modes import Continuations, chain, write_side_by_side
from autotag.prompts.prefix_scorer import ChainScorer, PlainScorer, chain_scorer, prompt_scorer
from autotag.testing import FakeEncoder

WORDS = [
    "blue",
    "sky",
    "red",
    "café",
    "naïve",
    "8k",
    "highly",
    "detailed",
    "trending",
    "on",
    "artstation",
    "by",
    "monet",
    "&amp;",
    "<b>",
    "日本",
    "wow!!",
    "<end_of_text>",
    "<|endoftext|>",
    "😀",
    "schÃ¶n",
    "&",
    "x",
]
STARTS = ["a cat", "the très long caption, with &lt; comma!!", "", "wow!!", "word " * 200]


def phrases(count=120):
    random = np.random.default_rng(0)
    made = [" ".join(random.choice(WORDS, size=random.integers(1, 8))) for _ in range(count)]
    return (*dict.fromkeys([*made, "x" * 500, "8k", "8 k", "blue sky " * 60]),)


def unit(count, width):
    rows = np.random.default_rng(1).normal(size=(count, width)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=["mini", "open_clip", "open_clip with timm", "hf"])
def encoder(request, tiny_folder, tiny, tmp_path):
    if request.param == "mini":
        return ModelPool(device="cpu").encoder("clip-mini")
    if request.param == "hf":
        return ModelPool(device="cpu").encoder(str(tiny_folder("clip")))
    timm = request.param == "open_clip with timm"
    return ModelPool(device="cpu").encoder(str(tiny.open_clip_folder(tmp_path / "model", timm_tower=timm)))


@pytest.fixture
def roomy(encoder):
    """An encoder that reads more than a few words."""
    if text_reader(encoder).length("a dog, blue, red, blue sky") > text_reader(encoder).context_length:
        pytest.skip("its tokenizer knows letters only, and it reads 16 of them")
    return encoder


def scorer_of(encoder) -> ChainScorer:
    scorer = chain_scorer(encoder)
    assert isinstance(scorer, ChainScorer), scorer
    return scorer


@pytest.mark.slow
def test_every_text_scores_what_the_encoder_says(encoder):
    scorer = scorer_of(encoder)
    vectors = unit(len(STARTS), encoder.embed_texts(["a"]).shape[1])
    asked = [(Continuations(start, phrases()), vector) for start, vector in zip(STARTS, vectors, strict=True)]
    for tokens_at_once in (2048, 40):
        scorer._halving.at_once = tokens_at_once
        for ours, (continuations, vector) in zip(scorer.similarities(asked), asked, strict=True):
            plain = encoder.embed_texts(continuations.texts()) @ vector
            np.testing.assert_allclose(ours, plain, atol=2e-6)


@pytest.mark.slow
def test_a_start_that_grows_is_only_extended(roomy, monkeypatch):
    scorer = scorer_of(roomy)
    extended = []
    original = scorer._extended

    def counting(prefix, tokens):
        extended.append(len(tokens))
        return original(prefix, tokens)

    monkeypatch.setattr(scorer, "_extended", counting)
    vector = unit(1, roomy.embed_texts(["a"]).shape[1])[0]
    for start in ("a dog", "a dog, blue", "a dog, blue, red"):
        continuations = Continuations(start, ("sky", "blue sky"))
        [ours] = scorer.similarities([(continuations, vector)])
        np.testing.assert_allclose(ours, roomy.embed_texts(continuations.texts()) @ vector, atol=2e-6)
    whole = len(scorer._start("a dog, blue, red"))
    assert sum(extended) == whole
    assert len(extended) == 3


@pytest.mark.slow
def test_whole_chains_are_those_of_the_plain_way(roomy):
    scorer, plain = scorer_of(roomy), PlainScorer(roomy)
    limit = text_reader(roomy)
    vectors = unit(3, roomy.embed_texts(["a"]).shape[1])
    choices = [phrase for phrase in phrases(60) if "end" not in phrase]

    def prompts(way):
        starts = ["a cat", "a photo", ""]
        return write_side_by_side([chain(start, choices, limit) for start in starts], vectors, way)

    made = prompts(scorer)
    assert made == prompts(plain)
    assert all(limit.fits(prompt) for prompt in made)
    assert len(set(made)) == 3


@pytest.mark.slow
def test_token_identical_phrases_score_exactly_the_same(roomy):
    scorer = scorer_of(roomy)
    vector = unit(1, roomy.embed_texts(["a"]).shape[1])[0]
    [scores] = scorer.similarities([(Continuations("a cat", ("blue sky", "x", "blue  sky")), vector)])
    assert scores[0] == scores[2] != scores[1]


@pytest.mark.slow
def test_out_of_memory_halves_and_goes_on(roomy, monkeypatch):
    scorer = scorer_of(roomy)
    original, failures = scorer._calculate, []

    def short_of_memory(pieces, *rest):
        size = sum(len(piece.trie.tokens) for piece in pieces)
        if size > 100:
            failures.append(size)
            raise torch.OutOfMemoryError("no more")
        return original(pieces, *rest)

    monkeypatch.setattr(scorer, "_calculate", short_of_memory)
    vector = unit(1, roomy.embed_texts(["a"]).shape[1])[0]
    continuations = Continuations("a cat", tuple(f"blue {number}" for number in range(150)))
    [ours] = scorer.similarities([(continuations, vector)])
    assert failures
    np.testing.assert_allclose(ours, roomy.embed_texts(continuations.texts()) @ vector, atol=2e-6)


def test_the_plain_way_halves_too():
    class Short(FakeEncoder):
        def embed_texts(self, texts, /):
            if len(texts) > 30:
                raise torch.OutOfMemoryError("no more")
            return super().embed_texts(texts)

    texts = tuple(f"text {number}" for number in range(100))
    vector = unit(1, 65)[0]
    [scores] = PlainScorer(Short()).similarities([(Continuations("", texts), vector)])
    np.testing.assert_allclose(scores, FakeEncoder().embed_texts(texts) @ vector, atol=1e-6)


def test_memory_that_does_not_do_for_one_text_is_an_error():
    class Full(FakeEncoder):
        def embed_texts(self, texts, /):
            raise torch.OutOfMemoryError("no more")

    with pytest.raises(torch.OutOfMemoryError):
        PlainScorer(Full()).of_texts(["a"], unit(1, 65)[0])


@pytest.mark.slow
@pytest.mark.parametrize("setting", [["prompt_chain"], "off"])
def test_it_is_switched_off_by_name_and_the_plain_way_says_the_same(setting):
    plain = prompt_scorer(ModelPool(device="cpu", fast_paths=FastPaths.parse(setting)).encoder("clip-mini"))
    fast = prompt_scorer(ModelPool(device="cpu").encoder("clip-mini"))
    assert isinstance(plain, PlainScorer)
    assert isinstance(fast, ChainScorer)
    asked = [(Continuations("a dog on the grass", phrases()), vector) for vector in unit(2, 512)]
    for one, other in zip(fast.similarities(asked), plain.similarities(asked), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)


def test_it_is_switched_off_for_transformers_too(tiny_folder):
    encoder = ModelPool(device="cpu", fast_paths=FastPaths.parse(["prompt_chain"])).encoder(
        str(tiny_folder("clip"))
    )
    assert isinstance(prompt_scorer(encoder), PlainScorer)


@pytest.mark.slow
def test_where_the_trial_fails_the_plain_way_is_taken_and_one_warning_says_so(monkeypatch, caplog):
    encoder = ModelPool(device="cpu").encoder("clip-mini")
    monkeypatch.setattr(prefix_scorer, "_CLOSE", 0.0)
    monkeypatch.setattr("autotag.config.fast_paths._said", set())
    assert isinstance(prompt_scorer(encoder), PlainScorer)
    assert isinstance(prompt_scorer(encoder), PlainScorer)
    [record] = caplog.records
    assert record.getMessage().startswith("fast path 'prompt_chain' is not used: it differs from embed_texts")


def test_siglip_and_strangers_take_the_plain_way(tiny_folder):
    siglip = ModelPool(device="cpu").encoder(str(tiny_folder("siglip")))
    assert chain_scorer(siglip) == "the text tower of siglip is not causal"
    assert isinstance(prompt_scorer(siglip), PlainScorer)
    assert "FakeEncoder does not show its text tower" in str(chain_scorer(FakeEncoder()))
    vector = unit(1, siglip.embed_texts(["a"]).shape[1])[0]
    [scores] = prompt_scorer(siglip).similarities([(Continuations("a dog", ("blue", "red")), vector)])
    np.testing.assert_allclose(scores, siglip.embed_texts(["a dog, blue", "a dog, red"]) @ vector, atol=1e-6)


def open_clip_encoder(**text):
    torch.manual_seed(0)
    vision = {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16}
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2, **text}
    model = open_clip.CustomTextCLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).eval()
    open_clip.model.set_model_preprocess_cfg(model, {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3})
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return OpenClipEncoder(model, tokenizer, id="tiny", dtype="float32", default_thresholds={})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ({"no_causal_mask": True}, "not causal"),
        ({"embed_cls": True, "context_length": 76}, "does not pool at the end token"),
        ({"pool_type": "last"}, "does not pool at the end token"),
    ],
)
def test_towers_of_other_kinds_take_the_plain_way(text, why):
    assert why in str(chain_scorer(open_clip_encoder(**text)))


def test_a_tower_that_answers_otherwise_than_expected_takes_the_plain_way(monkeypatch):
    encoder = open_clip_encoder()
    assert isinstance(chain_scorer(encoder), ChainScorer)
    honest = encoder.embed_texts
    monkeypatch.setattr(encoder, "embed_texts", lambda texts: honest([f"{text} !" for text in texts]))
    assert "differs from embed_texts" in str(chain_scorer(encoder))


def test_only_risky_texts_are_looked_at_twice():
    assert not prefix_scorer._is_risky("a dog, 8k (1920s), wow!!")
    for text in ("café", "AT&T", "<b>", "a\tb", "😀"):
        assert prefix_scorer._is_risky(text)
