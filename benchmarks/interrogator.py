"""How much faster the prompt modes are than CLIP Interrogator's algorithm, on the same random weights.

    python benchmarks/interrogator.py [--candidates 128] [--steps 9] [--device cpu] [--architecture ViT-B-32]

The other way is what CLIP Interrogator 0.6.0 does: every text in full, 77 tokens, in one batch per step, and
rows of label vectors stacked again for every ranking. One thread on a CPU, single precision, process CPU time
there and wall time on a GPU. Prints one table and writes benchmarks/results/interrogator-<candidates>.json.
"""

from __future__ import annotations

import resource
import time
from typing import TYPE_CHECKING

import numpy as np
import open_clip
import torch
from reporting import options, report

from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.fast.text_reader import text_reader
from autotag.prompts.clip_interrogator_modes import compat_chain
from autotag.prompts.modes import Continuations, Scores, top, write_side_by_side
from autotag.prompts.prefix_scorer import ChainScorer, chain_scorer
from autotag.relevance.label_matrix import LabelMatrix
from autotag.vocabularies.vocabulary import Vocabulary

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Row = tuple[str, float, float]

CAPTION = "a photograph of a man riding a horse on the beach"
LABELS = 100_000


class InFull:
    """Compares texts as CLIP Interrogator does."""

    def __init__(self, encoder: OpenClipEncoder, device: str) -> None:
        self.encoder, self.device = encoder, device

    def similarities(self, asked: list[tuple[Continuations, Scores]], /) -> list[Scores]:
        return [self._scores(texts.texts(), vector) for texts, vector in asked]

    def _scores(self, texts: list[str], vector: Scores) -> Scores:
        with torch.no_grad():
            features = self.encoder.model.encode_text(self.encoder.tokenizer(texts).to(self.device))
            features /= features.norm(dim=-1, keepdim=True)
            scores: Scores = (features @ torch.from_numpy(vector).to(self.device)).cpu().numpy()
            return scores


def seconds(work: Callable[[], object], device: str) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - start


def chain_rows(
    encoder: OpenClipEncoder, given: argparse.Namespace
) -> tuple[list[Row], dict[str, float | bool]]:
    """One step, and a whole chain with the same choices; and what else was seen."""
    scorer = chain_scorer(encoder)
    assert isinstance(scorer, ChainScorer), scorer
    in_full = InFull(encoder, given.device)
    labels = Vocabulary.bundled("flavors").labels + Vocabulary.bundled("artists").labels
    random = np.random.default_rng(0)
    chosen = random.choice(len(labels), given.candidates, replace=False)
    phrases = tuple(labels[place] for place in chosen)
    vector = encoder.embed_texts(["a man and his horse by the sea"])[0]
    step = [(Continuations(CAPTION, phrases), vector)]
    scorer.similarities([(Continuations(CAPTION, phrases[:8]), vector)])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ours = min(seconds(lambda: scorer.similarities(step), given.device) for _ in range(2))
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    theirs = seconds(lambda: in_full.similarities(step), given.device)
    difference = float(np.abs(scorer.similarities(step)[0] - in_full.similarities(step)[0]).max())

    def chained(way: object) -> str:
        writing = compat_chain(
            phrases, text_reader(encoder), start=CAPTION, start_score=0.0,
            min_count=given.steps, max_count=given.steps,
        )  # fmt: skip
        return write_side_by_side([writing], vector[None], way)[0]  # type: ignore[arg-type]

    prompts: list[str] = []
    mine = seconds(lambda: prompts.append(chained(scorer)), given.device)
    others = seconds(lambda: prompts.append(chained(in_full)), given.device)
    rows = [
        (f"one step, {given.candidates} phrases", theirs, ours),
        (f"chain of {given.steps} steps, {given.candidates} phrases", others, mine),
    ]
    return rows, {
        "largest difference": difference,
        "our memory, MB": memory,
        "same prompt": prompts[0] == prompts[1],
    }


def rank_rows() -> list[Row]:
    """The best 32 of 100,000 labels, for one image and per image of 16."""
    random = np.random.default_rng(0)
    vectors = random.normal(size=(LABELS, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    matrix = LabelMatrix(tuple(map(str, range(LABELS))), vectors)
    images = vectors[:16]
    rows = list(vectors)

    def theirs() -> object:
        stacked = torch.stack([torch.from_numpy(row) for row in rows])
        return (torch.from_numpy(images[:1]) @ stacked.T).topk(32)

    def ours(count: int) -> object:
        return [top(scores, 32) for scores in matrix.similarities(images[:count])]

    ours(16)
    other = min(seconds(theirs, "cpu") for _ in range(3))
    one = min(seconds(lambda: ours(1), "cpu") for _ in range(5))
    many = min(seconds(lambda: ours(16), "cpu") for _ in range(5)) / 16
    return [
        ("rank 100,000 labels", other, one),
        ("rank 100,000 labels, per image of 16", other, many),
    ]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--candidates", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--architecture", default="ViT-B-32")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = open_clip.create_model(given.architecture, device=given.device).eval()
    tokenizer = open_clip.get_tokenizer(given.architecture)
    encoder = OpenClipEncoder(model, tokenizer, id="random", dtype="float32", default_thresholds={})
    rows, findings = chain_rows(encoder, given)
    rows += rank_rows() if given.device == "cpu" else []
    with_ratios = [[what, theirs, ours, theirs / ours] for what, theirs, ours in rows]
    report(
        f"interrogator-{given.candidates}",
        given,
        ["what", "theirs, s", "ours, s", "ratio"],
        with_ratios,
        findings=findings,
    )


if __name__ == "__main__":
    main()
