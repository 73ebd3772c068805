"""Drawn photographs, and models small enough to learn from them in seconds."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import open_clip
import pytest
import torch
import transformers
from PIL import Image, ImageDraw
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

from autotag.training.data import CaptionedPhotos, LabelledPhotos
from autotag.training.encoder import Tokenize
from autotag.training.text_vocabulary import contrastive_tokenizer

SIDE = 32
NAMES = ("red square", "yellow ring", "blue square", "lime ring")


def _drawn(name: str, number: int) -> Image.Image:
    """A shape in a colour on grey, at a place that depends on the number."""
    colour, shape = name.split()
    image = Image.new("RGB", (SIDE, SIDE), (90 + 5 * number,) * 3)
    left, top = 2 + number % 5, 2 + number // 5
    box = (left, top, left + 20, top + 20)
    if shape == "square":
        ImageDraw.Draw(image).rectangle(box, fill=colour)
    else:
        ImageDraw.Draw(image).ellipse(box, outline=colour, width=4)
    return image


@pytest.fixture(scope="session")
def drawn() -> Callable[[str, int], Image.Image]:
    return _drawn


def _photos(numbers: range) -> LabelledPhotos:
    from autotag.training.data import _squashed

    rows = [(label, number) for label in range(len(NAMES)) for number in numbers]
    return LabelledPhotos(
        pixels=torch.stack([_squashed(_drawn(NAMES[label], number), SIDE) for label, number in rows]),
        classes=torch.tensor([label for label, _ in rows]),
        names=[[name] for name in NAMES],
    )


@pytest.fixture(scope="session")
def labelled() -> LabelledPhotos:
    """Squares and rings of four colours, eight of each."""
    return _photos(range(8))


@pytest.fixture(scope="session")
def unseen() -> LabelledPhotos:
    """The same shapes at places where ``labelled`` has none."""
    return _photos(range(8, 14))


@pytest.fixture(scope="session")
def captioned(labelled: LabelledPhotos) -> CaptionedPhotos:
    """The same photographs, with two captions each."""
    names = [NAMES[label] for label in labelled.classes.tolist()]
    return CaptionedPhotos(labelled.pixels, [[f"a {name}", f"one {name} on grey"] for name in names])


@pytest.fixture
def clip() -> tuple[open_clip.CLIP, Tokenize]:
    """A CLIP that knows nothing yet, and its tokenizer."""
    words = sorted({*" ".join(NAMES).split(), "a", "one", "on", "grey", "photo", "of", "the", "picture"})
    tokenizer = contrastive_tokenizer(words)
    torch.manual_seed(0)
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
        text_cfg={"context_length": 16, "vocab_size": len(tokenizer), "width": 32, "heads": 2, "layers": 2},
    )

    def tokenize(texts: list[str]) -> torch.Tensor:
        batch = tokenizer(texts, padding="max_length", truncation=True, max_length=16, return_tensors="pt")
        ids: torch.Tensor = batch.input_ids
        return ids

    return model, tokenize


MakeBlip = Callable[[transformers.BertTokenizer], transformers.BlipForConditionalGeneration]


@pytest.fixture(scope="session")
def tiny_blip() -> MakeBlip:
    """Makes a BLIP of random weights, the same ones each time, for 32 pixels and a tokenizer."""

    def make(tokenizer: transformers.BertTokenizer) -> transformers.BlipForConditionalGeneration:
        shape = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2, "num_hidden_layers": 2}
        text = {
            **shape,
            "encoder_hidden_size": 48,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 32,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        vision = {**shape, "image_size": 32, "patch_size": 8, "initializer_range": 0.02}
        torch.manual_seed(0)
        config = transformers.BlipConfig(vision_config=vision, text_config=text)
        return transformers.BlipForConditionalGeneration(config)

    return make


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> SentenceTransformer:
    """A sentence transformer of the teacher's kind with random weights and a small vocabulary."""
    folder = tmp_path_factory.mktemp("teacher")
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    pairs = [first + second for first in "abcdefghijklmnop" for second in "abcdefghijklmnop"]
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *pairs, *" ".join(NAMES).split()]
    tokenizer = transformers.BertTokenizer(vocab={token: i for i, token in enumerate(dict.fromkeys(tokens))})
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = Transformer(str(folder))
    return SentenceTransformer(modules=[words, Pooling(words.get_embedding_dimension())], device="cpu")


@pytest.fixture(scope="session")
def folder_of_drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four shapes as files, ``red square.png`` and so on."""
    folder = tmp_path_factory.mktemp("drawings")
    for name in NAMES:
        _drawn(name, 0).save(folder / f"{name}.png")
    return folder
