"""What each fast path gains, on a preset and on the work that it is for: with all paths, and without it.

    python benchmarks/fast_paths.py [--preset base|mini|none] [--isa avx2|avx512] [--paths NAME ...] [--peak]

Processor time on one thread. The two sides take turns in one process, several rounds; a row gives the medians
and their ratio: above 1, the path gains. "Preset" rows time the whole way from file to tags: ``base`` is
BLIP base, MiniLM and CLIP ViT-B/32 at full size with seeded random weights, as in ``pipeline.py``, 12 tokens
a caption; ``mini`` is the preset with its bundled weights. "Work" rows time what the path is for. ``--isa``
starts a process in which torch, oneDNN and MKL use no more than that instruction set, so that the smaller can
be measured on a machine that has the larger.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from instruction_sets import ISA, instruction_set, limit_to
from material import add_material_options, blip_folder, caption_texts, clip_folder, minilm, photographs
from reporting import options, report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from autotag.config.fast_paths import FastPaths
    from autotag.models.pool import ModelPool

    Work = Callable[[], object]

CAPTION = "a photograph of a man riding a horse on the beach"


def main() -> None:
    given = parsed()
    limit_to(given.isa)
    isa = instruction_set(given.isa)
    import torch

    torch.set_num_threads(1)
    rows = list(measured(given))
    columns = ["path", "what", "ms with it", "ms without", "times faster", "rounds"]
    name = f"fast_paths-{given.preset}-{isa.lower()}"
    report(
        name, given, columns, rows, findings={"instruction set": isa, **(peak(given) if given.peak else {})}
    )


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--preset", choices=["base", "mini", "none"], default="mini")
    parser.add_argument("--isa", choices=list(ISA), help="by default what the machine has")
    parser.add_argument("--paths", nargs="+", metavar="NAME", help="by default all that the preset uses")
    parser.add_argument("--peak", action="store_true", help="BLIP's image tower beside products of matrices")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4, help="photographs a round")
    return parser.parse_args()


def measured(given: argparse.Namespace) -> Any:
    """Yield one row for the preset as a whole and for the work of each path."""
    from autotag.config.fast_paths import AUTO, FAST_PATHS, FastPaths

    names = given.paths or [name for name in FAST_PATHS if name in USED[given.preset]]
    with ExitStack() as stack:
        whole = partial(WHOLE[given.preset], given, stack) if given.preset in WHOLE else None
        on = whole(AUTO) if whole else None
        if whole and on and not given.paths:
            yield row(
                "all", f"preset {given.preset}", given, on, whole(FastPaths.parse("off")), per=given.images
            )
        for name in names:
            off = AUTO.without(name)
            if whole and on:
                with ExitStack() as inner:
                    without = WHOLE[given.preset](given, inner, off)
                    yield row(name, f"preset {given.preset}", given, on, without, per=given.images)
            if name in WORK:
                what, make = WORK[name]
                yield row(name, what, given, make(given, AUTO), make(given, off))


def row(name: str, what: str, given: argparse.Namespace, on: Work, off: Work, *, per: int = 1) -> list[Any]:
    """Time both sides in turns and return a row of the table, which is shown on stderr at once."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for side in (on, off):
        side()
    for _ in range(given.rounds):
        for side, times in zip((on, off), seconds, strict=True):
            started = time.process_time()
            side()
            times.append(time.process_time() - started)
    with_it, without = (1e3 * median(times) / per for times in seconds)
    found = [name, what, with_it, without, without / with_it, given.rounds]
    print(*found, file=sys.stderr)
    return found


def base(given: argparse.Namespace, stack: ExitStack, paths: FastPaths) -> Work:
    """The stages of preset base at full size, over ``--images`` photographs."""
    from pipeline import base_pipeline

    found = photographs(given, given.images)
    texts = caption_texts(given, given.images)
    pipeline, written = base_pipeline(
        given.cache, device="cpu", batch_size=given.images, fast_paths=switched_off(paths)
    )
    stack.enter_context(pipeline)
    written.update({str(path): text for path, text in zip(found, texts, strict=True)})
    return lambda: list(pipeline.stream(found))


def mini(given: argparse.Namespace, stack: ExitStack, paths: FastPaths) -> Work:
    """Preset mini, over ``--images`` photographs."""
    import autotag

    found = photographs(given, given.images)
    tagger = stack.enter_context(
        autotag.load("mini", device="cpu", batch_size=given.images, fast_paths=switched_off(paths))
    )
    return lambda: list(tagger.stream(found))


def switched_off(paths: FastPaths) -> tuple[str, ...]:
    """The names that a pipeline's setting takes."""
    from autotag.config.fast_paths import FAST_PATHS

    return tuple(name for name in FAST_PATHS if not getattr(paths, name))


def _images(given: argparse.Namespace) -> list[Any]:
    from autotag.images.reading import read_image

    return [read_image(path).image for path in photographs(given, given.images)]


def pool(paths: FastPaths) -> ModelPool:
    from autotag.models.pool import ModelPool

    return ModelPool(device="cpu", dtype="float32", fast_paths=paths)


def blip(given: argparse.Namespace, paths: FastPaths, *, beams: int = 1, count: int = 1) -> Work:
    """Captions of some photographs at full size."""
    from autotag.protocols import CaptionOptions

    captioner = pool(paths).captioner(str(blip_folder(given.cache, large=False)))
    asked = CaptionOptions(max_new_tokens=12, num_beams=beams)
    images = _images(given)[:count]
    return lambda: captioner.caption(images, asked)


def blip_tower(given: argparse.Namespace, paths: FastPaths) -> Work:
    """BLIP's image tower at full size, one photograph."""
    import torch

    captioner: Any = pool(paths).captioner(str(blip_folder(given.cache, large=False)))
    pixels = torch.randn(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        with torch.inference_mode():
            captioner.model.vision_model(pixel_values=pixels)

    return run


def peak(given: argparse.Namespace) -> dict[str, float]:
    """GFLOP/s of the largest product in BLIP's image tower, by both libraries, and of the whole tower.

    The best of the rounds: what else the machine does takes its caches, and not always.
    """
    import torch

    from autotag.config.fast_paths import AUTO
    from autotag.models.fast.packed_linears import linear_of, packed_matrix, product

    rows, narrow, wide, layers = 577, 768, 3072, 12
    generator = torch.Generator().manual_seed(0)
    weight, states = (torch.randn(count, narrow, generator=generator) for count in (wide, 2 * rows))
    layer, packed = linear_of(weight, None), packed_matrix(weight)
    operations = {
        "MKL": 4 * rows * narrow * wide,
        "oneDNN": 4 * rows * narrow * wide,
        "tower": layers * (24 * rows * narrow**2 + 4 * rows**2 * narrow) + 2 * rows * narrow**2,
    }
    ways: dict[str, Work] = {
        "MKL": lambda: layer(states),
        "oneDNN": lambda: product(states, packed),
        "tower": blip_tower(given, AUTO),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(given.rounds + 1):
        for name, way in ways.items():
            for _ in range(1 if name == "tower" else 10):
                started = time.process_time()
                way()
                best[name] = min(best[name], time.process_time() - started)
    found = {f"GFLOP/s, {name}": operations[name] / best[name] / 1e9 for name in ways}
    top = max(found["GFLOP/s, MKL"], found["GFLOP/s, oneDNN"])
    return {**found, "tower's share of the peak": found["GFLOP/s, tower"] / top}


def mini_tower(given: argparse.Namespace, paths: FastPaths) -> Work:
    """The image tower of clip-mini; another round looks at other views, which no backbone remembers."""
    encoder: Any = pool(paths).encoder("clip-mini")
    images = _images(given)
    return lambda: encoder.embed_images(images)


def both_towers(given: argparse.Namespace, paths: FastPaths) -> Work:
    """The image vectors of clip-mini and the greedy captions of blip-mini of the same views."""
    from autotag.protocols import CaptionOptions

    models = pool(paths)
    encoder: Any = models.encoder("clip-mini")
    captioner: Any = models.captioner("blip-mini")
    images = _images(given)

    def run() -> None:
        views = [captioner.view(image) for image in images]
        encoder.embed_views(views)
        captioner.caption_views(views, CaptionOptions(max_new_tokens=8))

    return run


def coca(_: argparse.Namespace, paths: FastPaths) -> Work:
    """Greedy captions of 16 tokens by CoCa's decoder, two images."""
    import torch

    from autotag.models.fast.coca_generation import write
    from autotag.protocols import CaptionOptions

    captioner = coca_captioner(paths)
    states = torch.randn(2, 255, 512, generator=torch.Generator().manual_seed(0))

    def run() -> None:
        with torch.inference_mode():
            write(captioner.decoder, states, [49406], 49407, CaptionOptions(max_new_tokens=16))

    return run


def coca_captioner(paths: FastPaths) -> Any:
    import open_clip
    import torch

    from autotag.models.captioners.coca_captioner import CocaCaptioner

    torch.manual_seed(0)
    model = open_clip.create_model("coca_ViT-B-32").eval()
    with torch.no_grad():  # open_clip leaves it as memory was; no end token, so that captions are long
        projection = model.text_decoder.text_projection
        projection.normal_(std=projection.shape[0] ** -0.5)
        projection[:, [0, 49407]] = 0
    return CocaCaptioner(model, open_clip.get_tokenizer("coca_ViT-B-32"), "coca", fast_paths=paths)


def keyphrases(given: argparse.Namespace, paths: FastPaths) -> Work:
    """The keyphrases of 32 captions, seen before: an album's captions come again."""
    from autotag.protocols import KeyphraseOptions

    extractor = pool(paths).extractor(minilm())
    texts = caption_texts(given, 32)
    return lambda: extractor.extract(texts, KeyphraseOptions(candidates="ngrams"))


def texts_of(given: argparse.Namespace, paths: FastPaths) -> Work:
    """The vectors of 64 labels in a template by CLIP ViT-B/32."""
    from autotag.vocabularies.vocabulary import Vocabulary

    encoder = pool(paths).encoder(str(clip_folder(given.cache, large=False)))
    texts = [f"a photo of {label}" for label in Vocabulary.bundled("things").labels[:64]]
    return lambda: encoder.embed_texts(texts)


def prompts(given: argparse.Namespace, paths: FastPaths) -> Work:
    """One step of prompt mode ``best``: 64 phrases after a caption, by CLIP ViT-B/32."""
    from autotag.prompts.modes import Continuations
    from autotag.prompts.prefix_scorer import prompt_scorer
    from autotag.vocabularies.vocabulary import Vocabulary

    encoder = pool(paths).encoder(str(clip_folder(given.cache, large=False)))
    scorer = prompt_scorer(encoder)
    step = [
        (
            Continuations(CAPTION, tuple(Vocabulary.bundled("flavors").labels[:64])),
            encoder.embed_texts(["a"])[0],
        )
    ]
    return lambda: scorer.similarities(step)


def large_photograph(given: argparse.Namespace, paths: FastPaths) -> Work:
    """A photograph of 12 megapixels, from the file to what BLIP and CLIP look at."""
    from decode import LARGEST_SIDE, enlarged, fast, fitting, naive
    from transformers import BlipImageProcessor, CLIPImageProcessor

    assert LARGEST_SIDE == 384
    path = enlarged(photographs(given, 1, own_first=False)[0], 12.0)
    processors = [BlipImageProcessor(), CLIPImageProcessor()]
    if paths.views:
        return partial(fast, path, views=[fitting(processor) for processor in processors])
    return partial(naive, path, processors=processors)


WHOLE = {"base": base, "mini": mini}
_BLIP = {"views", "blip_attention", "blip_generation", "packed_linears", "packed_attention"}
USED = {
    "base": {*_BLIP, "keyphrase_vectors", "causal_text"},
    "mini": {*_BLIP, "folded_norms", "shared_backbone", "keyphrase_vectors", "causal_text"},
    "none": {
        *_BLIP, "folded_norms", "shared_backbone", "keyphrase_vectors", "causal_text", "coca_decoder",
        "prompt_chain",
    },
}  # fmt: skip
"""By preset, the paths that it takes; ``none`` times only the works."""
WORK: dict[str, tuple[str, Callable[[argparse.Namespace, FastPaths], Work]]] = {
    "views": ("12 megapixels, file to pixels", large_photograph),
    "blip_attention": ("BLIP's image tower", blip_tower),
    "blip_generation": ("caption with 3 beams", partial(blip, beams=3)),
    "coca_decoder": ("CoCa's decoder, 2 captions", coca),
    "packed_linears": ("captions of 4 photographs, greedy", partial(blip, count=4)),
    "packed_attention": ("BLIP's image tower", blip_tower),
    "folded_norms": ("clip-mini's image tower", mini_tower),
    "shared_backbone": ("clip-mini and blip-mini", both_towers),
    "keyphrase_vectors": ("32 captions seen before", keyphrases),
    "causal_text": ("64 labels in a template", texts_of),
    "prompt_chain": ("a step of mode best, 64 phrases", prompts),
}
"""Path -> what its work is, and what makes it ready to be done."""


if __name__ == "__main__":
    main()
