"""How many operations the host asks a GPU for: plain library calls beside autotag's fast paths.

    python benchmarks/operations.py [--images 64] [--data FOLDER]

Each costs the host some microseconds, however small it is and whatever the GPU does meanwhile, so these
counts say what keeps a fast GPU waiting. They depend on how deep models are and not on how wide: the models
here have the layers of BLIP base, MiniLM and CLIP ViT-B/32 and next to no width, and the GPU is the pretended
one of the tests. What only looks at memory in another way is not counted; a replayed graph counts once.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import transformers
from material import (
    HERE,
    TOKENS,
    add_material_options,
    caption_texts,
    minilm,
    photographs,
    save_blip,
    save_clip,
)
from reporting import options, report

from autotag.images.reading import read_image
from autotag.models.fast import step_graphs
from autotag.models.pool import ModelPool
from autotag.protocols import CaptionOptions, KeyphraseOptions

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

NARROW = {"hidden_size": 24, "intermediate_size": 24, "num_attention_heads": 12}


def main() -> None:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--images", type=int, default=64)
    given = parser.parse_args()
    models = narrow_models(given.cache / "narrow")
    images = [read_image(path).image for path in photographs(given, given.images)]
    texts = caption_texts(given, given.images)
    gpu = pretended_gpu()
    used = mock.patch.object(step_graphs, "_GAIN", 0.0)  # what is recorded, whose speed does not show here
    with used, gpu.pretended(), torch.no_grad():
        plain, fast = (counts(gpu, models, images, texts, off) for off in (["all"], []))
    rows = [[part, plain[part], fast[part], plain[part] / fast[part]] for part in plain]
    report("operations", given, ["part", "plain", "autotag", "times fewer"], rows)


def pretended_gpu() -> Any:
    path = HERE.parent / "tests" / "models" / "pretended_gpu.py"
    spec = importlib.util.spec_from_file_location("pretended_gpu", path)
    assert spec, path
    assert spec.loader, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counts(
    gpu: Any, models: dict[str, str], images: list[Image.Image], texts: list[str], off: list[str]
) -> dict[str, int]:
    """Part -> operations."""
    pool = ModelPool(encoder=models["clip"], device="cuda", dtype="float32", plain=off)
    captioner: Any = pool.captioner(models["blip"])
    extractor: Any = pool.extractor(models["minilm"])
    encoder: Any = pool.encoder()
    captions = CaptionOptions(max_new_tokens=TOKENS)
    keyphrases = KeyphraseOptions(candidates="ngrams")
    captioner.caption(images, captions)  # records a step
    found = ModelPool(device="cpu").extractor(models["minilm"]).extract(texts, keyphrases)
    tags = sorted({f"a photo of {phrase}" for row in found for phrase, _ in row})
    parts: dict[str, Callable[[], object]] = {
        f"BLIP, {TOKENS} tokens for {len(images)} images": lambda: captioner.caption(images, captions),
        f"KeyBERT, {len(texts)} captions": lambda: extractor.extract(texts, keyphrases),
        f"CLIP, {len(images)} images": lambda: encoder.embed_images(images),
        f"CLIP, {len(tags)} tags": lambda: encoder.embed_texts(tags),
    }
    made = {}
    for name, part in parts.items():
        with gpu.counted() as operations:
            part()
        made[name] = operations.total()
    return made


def narrow_models(folder: Path) -> dict[str, str]:
    """Folders of models as deep as the full-size ones, made once."""
    folders = {name: folder / name for name in ("blip", "clip", "minilm")}
    if not folders["blip"].exists():
        save_blip(
            folders["blip"], vision={**NARROW, "patch_size": 192}, text={**NARROW, "encoder_hidden_size": 24}
        )
    if not folders["clip"].exists():
        tower = {**NARROW, "projection_dim": 24}
        save_clip(folders["clip"], vision={**tower, "patch_size": 112}, text=tower, projection_dim=24)
    if not folders["minilm"].exists():
        _make_narrow_minilm(folders["minilm"])
    return {name: str(path) for name, path in folders.items()}


def _make_narrow_minilm(folder: Path) -> None:
    real = Path(minilm())
    config = transformers.AutoConfig.from_pretrained(real)
    config.update(NARROW)
    making = folder.with_name(f"{folder.name}-in-the-making")
    shutil.copytree(real, making, ignore=shutil.ignore_patterns("*.safetensors", "*.bin"), dirs_exist_ok=True)
    transformers.BertModel(config).save_pretrained(making)
    pooling = making / "1_Pooling" / "config.json"
    settings = json.loads(pooling.read_text(encoding="utf-8"))
    for name in settings:
        if name.endswith("dimension"):
            settings[name] = NARROW["hidden_size"]
    pooling.write_text(json.dumps(settings), encoding="utf-8")
    making.rename(folder)


if __name__ == "__main__":
    main()
