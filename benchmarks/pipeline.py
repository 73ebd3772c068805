"""The whole way from a JPEG file to tags: tutorial code, transformers in batches, autotag exact and reduced.

    python benchmarks/pipeline.py [--images N] [--device cuda] [--num-beams 3] [--large]
    python benchmarks/pipeline.py --isa avx2 --reduced none
    python benchmarks/pipeline.py --mini [--images N]

BLIP, KeyBERT with the real all-MiniLM-L6-v2, and CLIP, at full size; BLIP and CLIP with seeded random
weights that are made once, so nothing is downloaded. Every caption has 12 tokens. KeyBERT works on captions
that people wrote, not on what random weights say. The four ways run in turns, round by round, on the same
photographs, each photograph once; each way first tags some others, which are not counted.

- naive: one image at a time, as tutorials do: processor, generate, extract_keywords, processor, CLIP.
- batched: the same calls with batches of images and texts.
- exact: ``autotag.Pipeline`` in float32 with its defaults.
- reduced: the same with ``dtype="bfloat16"`` (``--reduced``); MiniLM stays in float32.

Milliseconds are wall time per image, of the stages too, which in autotag partly run at the same time;
"read" is the sum over the reading threads. "CPU ms" is processor time of all threads. Captions and tags are
compared with those of naive: identical means the same text, and the same tags in the same order. ``--mini``
runs the preset mini with its bundled weights instead.
"""

from __future__ import annotations

import resource
import time
import warnings
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from instruction_sets import ISA, instruction_set, limit_to
from material import (
    TOKENS,
    add_material_options,
    blip_folder,
    caption_texts,
    clip_folder,
    minilm,
    photographs,
)
from PIL import Image
from reporting import cores, options, report

import autotag
from autotag.records import Caption
from autotag.stages import CaptionImages, ExtractKeyphrases, FilterTags

with warnings.catch_warnings():
    from keybert import KeyBERT
    from sentence_transformers import SentenceTransformer
    from transformers import BlipForConditionalGeneration, BlipProcessor, CLIPModel, CLIPProcessor

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from pathlib import Path

    from autotag.records import Sample

TEMPLATE = "a photo of {}"
STAGES = ("read", "caption", "keyphrases", "tags")
STAGE_OF = {
    "read": "read",
    "caption_images": "caption",
    "extract_keyphrases": "keyphrases",
    "filter_tags": "tags",
    "match_vocabulary.vectors": "tags",
    "filter_tags.vectors": "tags",
}


@dataclass
class Outcome:
    """What one way made of its images, by path, and what it took."""

    captions: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    processor: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    gpu_gb: float = 0.0
    bound_by: list[str] = field(default_factory=list)
    batch_sizes: dict[str, int | None] = field(default_factory=dict)


class Clock:
    """Adds the time since it was last asked to a stage."""

    def __init__(self, stages: dict[str, float], device: str) -> None:
        self._stages, self._device = stages, device
        self._last = time.perf_counter()

    def __call__(self, stage: str) -> None:
        if self._device != "cpu":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self._stages[stage] += now - self._last
        self._last = now


class Libraries:
    """The plain library calls, one image at a time or in batches."""

    def __init__(self, given: argparse.Namespace, batch_size: int) -> None:
        blip, clip = blip_folder(given.cache, large=given.large), clip_folder(given.cache, large=given.large)
        self.device, self.batch_size, self.beams = given.device, batch_size, given.num_beams
        self.blip_processor = BlipProcessor.from_pretrained(blip)
        self.clip_processor = CLIPProcessor.from_pretrained(clip)
        self.blip = BlipForConditionalGeneration.from_pretrained(blip).to(given.device).eval()
        self.clip = CLIPModel.from_pretrained(clip).to(given.device).eval()
        self.keybert = KeyBERT(SentenceTransformer(minilm(), device=given.device))

    def shared(self, batch_size: int) -> Libraries:
        """The same models with another batch size."""
        other = object.__new__(Libraries)
        vars(other).update(vars(self), batch_size=batch_size)
        return other

    def __call__(self, paths: list[Path], texts: dict[str, str], outcome: Outcome) -> None:
        with torch.inference_mode():
            for start in range(0, len(paths), self.batch_size):
                self._batch(paths[start : start + self.batch_size], texts, outcome)

    def _batch(self, paths: list[Path], texts: dict[str, str], outcome: Outcome) -> None:
        clock = Clock(outcome.stages, self.device)
        images = [Image.open(path).convert("RGB") for path in paths]
        clock("read")
        inputs = self.blip_processor(images=images, return_tensors="pt").to(self.device)
        ids = self.blip.generate(**inputs, max_new_tokens=TOKENS, num_beams=self.beams)
        captions = self.blip_processor.batch_decode(ids, skip_special_tokens=True)
        sources = [str(path) for path in paths]
        outcome.captions.update(zip(sources, (" ".join(text.split()) for text in captions), strict=True))
        clock("caption")
        keywords = self._keywords([texts[source] for source in sources])
        clock("keyphrases")
        images = [Image.open(path).convert("RGB") for path in paths]
        clock("read")
        outcome.tags.update(zip(sources, self._ranked(images, keywords), strict=True))
        clock("tags")

    def _keywords(self, texts: list[str]) -> list[list[str]]:
        single = len(texts) == 1
        given = texts[0] if single else texts
        found = self.keybert.extract_keywords(
            given, keyphrase_ngram_range=(1, 2), stop_words="english", top_n=5
        )
        rows = [found] if single else found
        return [[word for word, _ in row] for row in rows]

    def _ranked(self, images: list[Image.Image], keywords: list[list[str]]) -> list[list[str]]:
        unique = list(dict.fromkeys(word for row in keywords for word in row))
        prompts = [TEMPLATE.format(word) for word in unique]
        inputs = self.clip_processor(text=prompts, images=images, return_tensors="pt", padding=True)
        scores = self.clip(**inputs.to(self.device)).logits_per_image.float().cpu().tolist()
        by_word = [dict(zip(unique, row, strict=True)) for row in scores]
        return [
            sorted(words, key=lambda word, row=row: (-row[word], word))
            for row, words in zip(by_word, keywords, strict=True)
        ]


class Autotag:
    """A pipeline of autotag, whose captions are kept aside and replaced by human captions."""

    def __init__(self, given: argparse.Namespace, dtype: str) -> None:
        self.pipeline, self.texts = base_pipeline(
            given.cache,
            large=given.large,
            num_beams=given.num_beams,
            device=given.device,
            dtype=dtype,
            decode=given.decode,
            batch_size=given.batch_size or "auto",
            fast_paths=tuple(given.without),
        )
        self.pipeline.load()

    def __call__(self, paths: list[Path], texts: dict[str, str], outcome: Outcome) -> None:
        self.texts.update(texts)
        for result in self.pipeline.stream(paths):
            outcome.captions[result.source] = result.extras["generated"]
            outcome.tags[result.source] = [tag.text for tag in result.tags]
        note_stats(self.pipeline, outcome)


def base_pipeline(
    cache: Path, *, large: bool = False, num_beams: int = 1, **settings: Any
) -> tuple[autotag.Pipeline, dict[str, str]]:
    """The stages of preset base with the models of this benchmark.

    Returns:
        The pipeline, and by source the captions, to be filled in, that replace those of the random BLIP.
    """
    texts: dict[str, str] = {}

    @autotag.stage(requires={"captions"}, provides={"captions", "extras.generated"})
    def use_the_written_caption(sample: Sample) -> None:
        sample.extras["generated"] = sample.captions[0].text
        sample.captions = [Caption(texts[sample.source], "a person")]

    stages = [
        CaptionImages(str(blip_folder(cache, large=large)), max_new_tokens=TOKENS, num_beams=num_beams),
        use_the_written_caption,
        ExtractKeyphrases(minilm(), candidates="ngrams"),
        FilterTags(score="cosine", threshold=-1.0, top_k=None, template=TEMPLATE),
    ]
    return autotag.Pipeline(stages, encoder=str(clip_folder(cache, large=large)), **settings), texts


def note_stats(pipeline: autotag.Pipeline, outcome: Outcome) -> None:
    stats = pipeline.stats()
    outcome.bound_by.append(stats.bound_by)
    for stage in stats.stages:
        outcome.stages[STAGE_OF.get(stage.name, "other")] += stage.seconds
        outcome.batch_sizes[stage.name] = stage.batch_size


def main() -> None:
    given = parsed()
    limit_to(given.isa)
    instruction_set(given.isa)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.mini:
        run_mini(given)
    else:
        run_full_size(given)


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument(
        "--images", type=int, default=0, help="by default 32 on a CPU, 2048 on a GPU, 600 for mini"
    )
    parser.add_argument("--rounds", type=int, default=2, help="in how many turns the images are done")
    parser.add_argument("--warm-up", type=int, default=0, help="by default 2 on a CPU, 256 on a GPU")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="torch's; by default its own choice")
    parser.add_argument("--num-beams", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=0, help="autotag's; by default its own choice")
    parser.add_argument("--batched-size", type=int, default=0, help="by default 8 on a CPU, 64 on a GPU")
    parser.add_argument("--decode", choices=["fast", "exact"], default="fast")
    parser.add_argument("--reduced", choices=["bfloat16", "float16", "int8", "none"], default="bfloat16")
    parser.add_argument("--isa", choices=list(ISA), help="by default what the machine has")
    parser.add_argument("--without", nargs="*", default=[], help="fast paths to switch off")
    parser.add_argument(
        "--most-naive", type=int, default=0, help="images per round for naive; by default all, 64 on a GPU"
    )
    parser.add_argument("--large", action="store_true", help="BLIP large and CLIP ViT-L/14")
    parser.add_argument("--mini", action="store_true", help="the preset mini with its bundled weights")
    given = parser.parse_args()
    on_gpu = given.device != "cpu"
    given.images = given.images or (600 if given.mini else 2048 if on_gpu else 32)
    given.warm_up = given.warm_up or (256 if on_gpu else 2)
    given.most_naive = given.most_naive or (64 if on_gpu else 0)
    given.batched_size = given.batched_size or (64 if on_gpu else 8)
    return given


def run_full_size(given: argparse.Namespace) -> None:
    rounds, warm_up, texts = material(given)
    naive = Libraries(given, 1)
    ways: dict[str, Callable[..., None]] = {
        "naive": naive,
        "batched": naive.shared(given.batched_size),
        "exact": Autotag(given, "float32"),
    }
    if given.reduced != "none":
        ways["reduced"] = Autotag(given, given.reduced)
    for name, way in ways.items():
        way(warm_up[: 2 if name == "naive" else None], texts, Outcome())
    outcomes = {name: Outcome() for name in ways}
    for paths in rounds:
        for name, way in ways.items():
            few = given.most_naive if name == "naive" and given.most_naive else None
            timed(way, paths[:few], texts, outcomes[name], given.device)
    rows = [row(name, outcome, outcomes["naive"]) for name, outcome in outcomes.items()]
    name = "-".join(
        filter(None, ["pipeline", "large" * given.large, device_name(given), given.isa, beams(given)])
    )
    report(name, given, COLUMNS, rows, findings=findings(outcomes))


COLUMNS = [
    "way", "images", "images/s", "ms", "CPU ms", "times naive", "by CPU", "same captions", "same tags",
    *STAGES, "GPU GB",
]  # fmt: skip


def device_name(given: argparse.Namespace) -> str:
    return str(given.device).partition(":")[0]


def beams(given: argparse.Namespace) -> str:
    return f"beams{given.num_beams}" if given.num_beams > 1 else ""


def material(given: argparse.Namespace) -> tuple[list[list[Path]], list[Path], dict[str, str]]:
    """The photographs of each round, those to warm up on, and a written caption for each."""
    paths = photographs(given, given.images + given.warm_up)
    written = caption_texts(given, len(paths))
    texts = {str(path): written[number % len(written)] for number, path in enumerate(paths)}
    counted = paths[: given.images]
    step = -(-len(counted) // given.rounds)
    return [counted[at : at + step] for at in range(0, len(counted), step)], paths[given.images :], texts


def timed(
    way: Callable[..., None], paths: list[Path], texts: dict[str, str], outcome: Outcome, device: str
) -> None:
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    started, processor = time.perf_counter(), time.process_time()
    way(paths, texts, outcome)
    outcome.seconds += time.perf_counter() - started
    outcome.processor += time.process_time() - processor
    if device != "cpu":
        outcome.gpu_gb = max(outcome.gpu_gb, torch.cuda.max_memory_allocated() / 1e9)


def row(name: str, outcome: Outcome, naive: Outcome) -> list[Any]:
    count = len(outcome.captions)
    slow = len(naive.captions)
    pace = (naive.seconds / slow) / (outcome.seconds / count)
    return [
        name,
        count,
        count / outcome.seconds,
        1e3 * outcome.seconds / count,
        1e3 * outcome.processor / count,
        pace,
        (naive.processor / slow) / (outcome.processor / count),
        share(naive.captions, outcome.captions),
        share(naive.tags, outcome.tags),
        *(1e3 * outcome.stages[stage] / count for stage in STAGES),
        outcome.gpu_gb or None,
    ]


def share(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """``"16/16"``: how many are equal, of the images that both did."""
    pairs = [(expected[source], found[source]) for source in expected]
    return f"{sum(one == other for one, other in pairs)}/{len(pairs)}"


def findings(outcomes: dict[str, Outcome]) -> dict[str, Any]:
    ours = [name for name in outcomes if name in {"exact", "reduced"}]
    return {
        "instruction set": instruction_set(None),
        "distinct captions": len(set(outcomes["naive"].captions.values())),
        "peak memory of the whole process, GB": peak_gb(),
        "threads of torch": torch.get_num_threads(),
        "cores": cores(),
        **{f"{name} is bound by": ", ".join(outcomes[name].bound_by) for name in ours},
        "batch sizes": {name: outcomes[name].batch_sizes for name in ours},
        "tags that differ from naive's": {
            name: differing(outcomes["naive"].tags, outcomes[name].tags) for name in ours
        },
        "captions that differ from naive's": {
            name: differing(outcomes["naive"].captions, outcomes[name].captions) for name in ours
        },
    }


def differing(expected: dict[str, Any], found: dict[str, Any]) -> list[list[Any]]:
    """At most five pairs that are not equal."""
    pairs = [[expected[source], found[source]] for source in expected]
    return [pair for pair in pairs if pair[0] != pair[1]][:5]


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def run_mini(given: argparse.Namespace) -> None:
    paths = photographs(given, given.images + given.warm_up)
    outcome = Outcome()
    with autotag.load("mini", device=given.device, batch_size=given.batch_size or None) as tagger:
        list(tagger.stream(paths[given.images :]))
        started, processor = time.perf_counter(), time.process_time()
        results = list(tagger.stream(paths[: given.images]))
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        note_stats(tagger, outcome)
    figures = [
        len(results),
        len(results) / seconds,
        1e3 * seconds / len(results),
        1e3 * processor / len(results),
    ]
    stages = [1e3 * outcome.stages[stage] / len(results) for stage in STAGES]
    found = {
        "bound by": outcome.bound_by[0],
        "peak memory of the whole process, GB": peak_gb(),
        "threads of torch": torch.get_num_threads(),
        "batch sizes": outcome.batch_sizes,
    }
    columns = ["way", "images", "images/s", "ms", "CPU ms", *STAGES]
    report(
        f"pipeline-mini-{device_name(given)}", given, columns, [["mini", *figures, *stages]], findings=found
    )


if __name__ == "__main__":
    main()
