"""The compat mode, beside CLIP Interrogator itself where that is installed."""

from __future__ import annotations

import os

import numpy as np
import pytest

from autotag.prompts.clip_interrogator_modes import chunked_top, compat_chain, truncated
from autotag.prompts.modes import write_side_by_side


class Words:
    """Scores a text by its words; its rows are full from so many words on."""

    def __init__(self, worth=(), words=1000):
        self.worth, self.words = dict(worth), words

    def similarities(self, asked, /):
        return [
            np.array(
                [
                    sum(self.worth.get(w, 0.0) for w in text.replace(",", "").split())
                    for text in texts.texts()
                ],
                dtype=np.float32,
            )
            for texts, _ in asked
        ]

    def is_full(self, text, /):
        return len(text.split()) >= self.words


def chained(phrases, scorer, **options):
    writing = compat_chain(phrases, scorer, **options)
    [prompt] = write_side_by_side([writing], np.zeros((1, 2), dtype=np.float32), scorer)
    return prompt


def test_reversed_a_positive_first_similarity_outdoes_all_that_follow():
    scorer = Words({"soft": 0.1, "warm": -0.05, "cold": 0.2})
    assert chained(["soft", "cold"], scorer, reverse=True) == "soft"


def test_the_last_phrase_may_run_past_what_the_encoder_reads():
    scorer = Words({"very": 0.1, "b": 0.05}, words=4)
    assert chained(["very very very", "b"], scorer, start="a dog", start_score=0.0) == "a dog, very very very"


def test_a_chain_that_has_used_up_its_phrases_ends():
    assert chained(["a", "b"], Words({"a": 0.1, "b": 0.1}), start="x") == "x, a, b"
    assert chained([], Words()) == ""


def test_of_many_labels_a_share_of_each_chunk_is_kept():
    scores = np.linspace(1, 0, 3 * 2048).astype(np.float32)
    kept = chunked_top(scores, 2048)
    assert len(kept) == 3 * (2048 // 3)
    assert kept[:3].tolist() == [0, 1, 2]
    assert not {682, 2047} & set(kept.tolist())


def test_the_lowest_of_many_come_highest_first():
    scores = np.linspace(1, 0, 2 * 2048).astype(np.float32)
    kept = chunked_top(scores, 5, lowest=True)
    assert scores[kept[0]] > 0.5
    assert chunked_top(scores[:100], 2, lowest=True).tolist() == [99, 98]


def test_parts_are_added_while_the_text_without_its_comma_is_not_full():
    test = Words(words=4)
    assert truncated("a dog, red, blue, green", test) == "a dog, red, blue"
    assert truncated("one two three four five, six", test) == "one two three four five"


KINDS = (
    "red",
    "blue",
    "green",
    "black",
    "white",
    "golden",
    "pale",
    "dark",
    "bright",
    "warm",
    "cold",
    "soft",
    "old",
)
PLACES = (
    "sea",
    "wood",
    "river",
    "city",
    "street",
    "house",
    "tower",
    "castle",
    "garden",
    "field",
    "beach",
    "cave",
)
THINGS = (
    "light",
    "smoke",
    "fire",
    "ice",
    "rain",
    "snow",
    "fog",
    "dust",
    "cloud",
    "moon",
    "star",
    "bird",
    "wolf",
    "ship",
)
FLAVORS = [f"{kind} {thing} by the {place}" for kind in KINDS for place in PLACES for thing in THINGS]
LISTS = {
    "artists": ["Ann Lee", "Bob Hill", "Zoë Kravchuk", "Li Wei"],
    "flavors": FLAVORS,
    "mediums": ["a photo", "a painting", "an etching"],
    "movements": ["cubism", "art deco", "pop art"],
    "negative": ["blurry", "bad anatomy", "red light"],
}


@pytest.fixture(scope="module")
def encoder():
    import open_clip
    import torch

    from autotag.models.encoders.openclip_encoder import OpenClipEncoder

    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        text_cfg={"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    ).eval()
    open_clip.model.set_model_preprocess_cfg(model, {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3})
    with torch.no_grad():  # as made, tokens hardly tell texts apart
        model.token_embedding.weight *= 30
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    return OpenClipEncoder(model, tokenizer, id="tiny", dtype="float32", default_thresholds={})


@pytest.fixture(scope="module")
def peer(encoder, tmp_path_factory):
    """CLIP Interrogator on the same weights and lists, with the same label vectors."""
    pytest.importorskip("clip_interrogator", reason="compares with clip-interrogator 0.6.0 where installed")
    import warnings

    data = tmp_path_factory.mktemp("lists")
    for name, labels in LISTS.items():
        (data / f"{name}.txt").write_text("\n".join(labels) + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from clip_interrogator import Config, Interrogator

        config = Config(
            caption_model_name=None,
            clip_model_name="ViT-B-32/tiny",
            cache_path=None,
            data_path=str(data),
            device="cpu",
            flavor_intermediate_count=128,
            quiet=True,
        )
        config.clip_model, config.clip_preprocess = encoder.model, encoder.preprocess
        return Interrogator(config)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["best", "fast", "classic", "negative"])
def test_compat_is_the_peers_own_answer(peer, encoder, mode, monkeypatch):
    from PIL import Image

    from autotag.records import Caption, Sample
    from autotag.stages import AssemblePrompt
    from autotag.testing import FakeModels

    stage = AssemblePrompt(
        mode,
        compat="clip-interrogator",
        candidates=128,
        artists=tuple(peer.artists.labels),
        flavors=tuple(peer.flavors.labels),
        mediums=tuple(peer.mediums.labels),
        movements=tuple(peer.movements.labels),
        trendings=tuple(peer.trendings.labels),
        negatives=tuple(peer.negative.labels),
    )
    stage.setup(FakeModels(fake_encoder=encoder))
    for part, matrix in stage._phrases.matrices.items():
        if len(matrix.labels):
            getattr(peer, part).embeds = list(matrix.vectors)
    random = np.random.default_rng(5)
    photographs = int(os.environ.get("AUTOTAG_PARITY_IMAGES", "3"))
    for number in range(photographs):
        image = Image.fromarray(random.integers(0, 255, (40, 50, 3), dtype=np.uint8))
        caption = ["a dog on a beach", "a painting of two ships at night", "x " * 90][number % 3].strip()
        sample = Sample("image", image, image.size, captions=[Caption(caption, "test")])
        stage([sample])
        given = {} if mode == "negative" else {"caption": caption}
        call = peer.interrogate if mode == "best" else getattr(peer, f"interrogate_{mode}")
        assert sample.prompt == call(image, **given)
