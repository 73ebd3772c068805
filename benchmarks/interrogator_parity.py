"""The same prompts as CLIP Interrogator 0.6.0? Its package and autotag on the same weights and photographs.

    python -m venv peer && peer/bin/pip install clip-interrogator==0.6.0
    python benchmarks/interrogator_parity.py --peer peer/bin/python [--photos FOLDER] [--count 20]
    python benchmarks/interrogator_parity.py --peer peer/bin/python --full-size [--every 8]
    python benchmarks/interrogator_parity.py --peer peer/bin/python --full-size --device cuda \
        --architecture ViT-L-14 --count 16 --candidates 2048

Its package lives in an environment of its own and runs in a process of its own; without it this says so and
ends. Both sides get the same label vectors (written into its cache), the same caption, the pixels of its own
preprocessing, single precision, one thread. Without --full-size the model is the bundled clip-mini, and each
photograph is asked in four modes; with it, ViT-B-32 with seeded random weights, one photograph in mode best,
and its label vectors take a quarter of an hour at first (--every 8: every 8th line of its lists). A choice is
the same if its tokens are: "8k" and "8 k" are one text to the model. Seconds are of the processor; on a GPU,
where best and fast are asked, of the clock. Several photographs are asked together as well ("in batches").
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import open_clip
import torch
from interrogator_peer import clock
from material import add_material_options, caption_texts, photographs
from PIL import Image
from reporting import options, report
from safetensors.numpy import save_file

import autotag
from autotag.config.fast_paths import FastPaths
from autotag.files.user_folders import FOLDER_VARIABLE
from autotag.models.encoders.openclip_encoder import OpenClipEncoder
from autotag.models.pool import ModelPool
from autotag.records import Caption, Sample
from autotag.relevance.label_matrix import label_matrix
from autotag.stages import AssemblePrompt
from autotag.vocabularies.clip_interrogator_lists import PARTS, clip_interrogator_labels

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from autotag.prompts.modes import Continuations, PromptScorer, Scores


PEER = Path(__file__).with_name("interrogator_peer.py")
MODES = ("best", "fast", "classic", "negative")
CLIP_MINI = Path(autotag.__file__).parent / "data" / "models" / "clip-mini"
CLOSE = 1e-5
"""The largest difference between two similarities that counts as none."""


@dataclass(frozen=True)
class Place:
    """Where a model is: what open_clip calls it, seen from a folder, and its weights."""

    architecture: str
    folder: Path
    weights: str | None


class Listening:
    """A scorer that notes of every step the text chosen and its similarity."""

    def __init__(self, scorer: PromptScorer, *, reverse: bool) -> None:
        self.scorer = scorer
        self.sign = -1 if reverse else 1
        self.steps: list[tuple[str, float]] = []

    def similarities(self, asked: Sequence[tuple[Continuations, Scores]], /) -> list[Scores]:
        answers = self.scorer.similarities(asked)
        for (continuations, _), scores in zip(asked, answers, strict=True):
            chosen = int(np.argmax(self.sign * scores))
            self.steps.append((continuations.texts()[chosen], float(scores[chosen])))
        return answers


def main() -> None:
    given = parsed()
    found = subprocess.run([given.peer, PEER], capture_output=True, text=True, check=False)  # noqa: S603
    if found.returncode:
        reason = (found.stderr.strip().splitlines() or ["it does not start"])[-1]
        print(f"skipped: {given.peer} has no clip-interrogator ({reason})")
        return
    site, peer_version = found.stdout.split()
    torch.set_num_threads(1)
    place = full_size(given.cache, given.architecture) if given.full_size else mini()
    encoder = encoder_at(place, given.device)
    folder = given.cache / "interrogator" / f"{place.architecture.replace(':', '-')}-every-{given.every}"
    os.environ[FOLDER_VARIABLE] = str(folder)
    copy_lists(Path(site) / "clip_interrogator", folder / "clip_interrogator", given.every)
    sys.path.insert(0, str(folder))  # where autotag finds the lists
    write_vectors(encoder, folder / "cache", place.architecture)
    expected = peer_answers(given, place, folder)
    found_rows = [compared(encoder, answer, given) for answer in expected]
    summarise(given, found_rows, together(encoder, expected, given), peer_version)


def parsed() -> argparse.Namespace:
    parser = options(__doc__)
    add_material_options(parser)
    parser.add_argument("--peer", default=sys.executable, help="the Python that has clip-interrogator")
    parser.add_argument("--count", type=int, help="photographs (20; at full size 1)")
    parser.add_argument("--candidates", type=int, default=128, help="its flavor_intermediate_count")
    parser.add_argument("--every", type=int, default=1, help="of its lists every so many-th line only")
    parser.add_argument("--full-size", action="store_true", help="a published architecture, mode best")
    parser.add_argument("--architecture", default="ViT-B-32", help="of --full-size, as open_clip calls it")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=16, help="photographs that are asked together")
    given = parser.parse_args()
    given.count = given.count or (1 if given.full_size else 20)
    given.cache = given.cache.resolve()
    return given


def mini() -> Place:
    return Place(f"local-dir:{CLIP_MINI.name}", CLIP_MINI.parent, None)


def full_size(cache: Path, architecture: str) -> Place:
    """Seeded weights in a file, so that both processes load the same."""
    path = cache / "interrogator" / f"{architecture.lower()}.pt"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        torch.save(open_clip.create_model(architecture).state_dict(), path)
    return Place(architecture, path.parent, str(path))


def encoder_at(place: Place, device: str) -> OpenClipEncoder:
    """With open_clip's own preprocessing, which is the peer's."""
    name = place.architecture.replace("local-dir:", f"local-dir:{place.folder}/")
    model = open_clip.create_model(name, pretrained=place.weights).eval()
    weights = sha256(b"".join(value.numpy().tobytes() for value in model.state_dict().values()))
    return OpenClipEncoder(
        model.to(device),
        open_clip.get_tokenizer(name),
        id=f"parity:{weights.hexdigest()}",
        dtype="float32",
        default_thresholds={},
        fast_paths=FastPaths(views=False),
    )


def copy_lists(package: Path, target: Path, every: int) -> None:
    """Its package's files, with every so many-th line of its lists."""
    if not target.is_dir():
        shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (package / "data").glob("*.txt"):
        lines = file.read_bytes().split(b"\n")
        kept = lines[::every] if every > 1 else lines
        (target / "data" / file.name).write_bytes(b"\n".join(kept))


def write_vectors(encoder: OpenClipEncoder, cache: Path, architecture: str) -> None:
    """What it would calculate from 77 places per label, in its own files."""
    cache.mkdir(exist_ok=True)
    for part in PARTS:
        labels = clip_interrogator_labels(part)
        vectors = label_matrix(encoder, labels, name=part).vectors.astype(np.float16)
        key = sha256(",".join(labels).encode()).hexdigest()
        table = {"embeds": vectors, "hash": np.array([ord(letter) for letter in key], dtype=np.int8)}
        file = {"negatives": "negative"}.get(part, part)
        save_file(table, cache / f"{architecture}_parity_{file}.safetensors")


def peer_answers(given: argparse.Namespace, place: Place, folder: Path) -> list[dict[str, Any]]:
    """Its prompts and steps, calculated in its own process."""
    captions = caption_texts(given, given.count)
    paths = photographs(given, given.count)
    job = {
        "architecture": place.architecture,
        "folder": str(place.folder),
        "weights": place.weights,
        "cache": str(folder / "cache"),
        "lists": str(folder / "clip_interrogator" / "data"),
        "candidates": given.candidates,
        "device": given.device,
        "modes": modes_of(given),
        "photographs": [
            {"path": str(path), "caption": captions[place % len(captions)]}
            for place, path in enumerate(paths)
        ],
        "answers": str(folder / "answers.json"),
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    subprocess.run([given.peer, PEER, folder / "job.json"], check=True)  # noqa: S603
    answers: list[dict[str, Any]] = json.loads((folder / "answers.json").read_text(encoding="utf-8"))
    return answers


def modes_of(given: argparse.Namespace) -> tuple[str, ...]:
    """The modes that photographs are asked in."""
    if not given.full_size:
        return MODES
    return ("best",) if given.device == "cpu" else ("best", "fast")


@functools.cache
def stage_of(encoder: OpenClipEncoder, mode: Any, candidates: int) -> AssemblePrompt:
    stage = AssemblePrompt(mode, compat="clip-interrogator", candidates=candidates)
    stage.setup(ModelPool(encoder=encoder))
    return stage


def asked(answer: dict[str, Any]) -> Sample:
    """A photograph as the stage gets it, read again, with the caption that its answer belongs to."""
    image = Image.open(answer["path"]).convert("RGB")
    sample = Sample(answer["path"], image, image.size)
    sample.captions = [Caption(answer["caption"], "given")]
    return sample


def together(
    encoder: OpenClipEncoder, expected: list[dict[str, Any]], given: argparse.Namespace
) -> dict[str, float]:
    """By mode our seconds per photograph when several are asked at once; nothing for one alone."""
    seconds = {}
    for mode in modes_of(given):
        answers = [answer for answer in expected if answer["mode"] == mode]
        if len(answers) < 2:
            continue
        stage = stage_of(encoder, mode, given.candidates)
        start = clock(given.device)
        for first in range(0, len(answers), given.batch):
            stage([asked(answer) for answer in answers[first : first + given.batch]])
        seconds[mode] = (clock(given.device) - start) / len(answers)
    return seconds


def compared(encoder: OpenClipEncoder, answer: dict[str, Any], given: argparse.Namespace) -> dict[str, Any]:
    """One of its answers beside ours."""
    stage = stage_of(encoder, answer["mode"], given.candidates)
    steps: list[tuple[str, float]] = []
    if answer["mode"] in {"best", "negative"}:
        plain = stage._scorer.scorer if isinstance(stage._scorer, Listening) else stage._scorer  # noqa: SLF001
        stage._scorer = listening = Listening(plain, reverse=answer["mode"] == "negative")  # noqa: SLF001
        steps = listening.steps
    start = clock(given.device)
    stage([sample := asked(answer)])
    seconds = clock(given.device) - start
    if answer["mode"] == "best":
        steps.pop()  # of the four prompts; the peer asks for these otherwise
    pairs = list(zip(answer["steps"], steps, strict=False))
    return {
        "photograph": Path(answer["path"]).name,
        "mode": answer["mode"],
        "same prompt": same(encoder, answer["prompt"], sample.prompt),
        "same text": answer["prompt"] == sample.prompt,
        "steps": len(answer["steps"]),
        "same choices": len(answer["steps"]) == len(steps)
        and all(same(encoder, theirs[0], ours[0]) for theirs, ours in pairs),
        "largest difference": max((abs(theirs[1] - ours[1]) for theirs, ours in pairs), default=0.0),
        "peer, s": answer["seconds"],
        "autotag, s": seconds,
        "prompt": sample.prompt,
    }


def same(encoder: OpenClipEncoder, one: str, other: str) -> bool:
    """Whether two texts are one to the model."""
    return bool(torch.equal(encoder.tokenizer([one]), encoder.tokenizer([other])))


def summarise(
    given: argparse.Namespace,
    found: list[dict[str, Any]],
    in_batches: dict[str, float],
    peer_version: str,
) -> None:
    columns = ["mode", "photographs", "same prompts", "letter by letter", "steps", "same choices",
               "largest difference", "peer, s", "autotag, s", "ratio", "in batches, s each"]  # fmt: skip
    rows = []
    for mode in dict.fromkeys(row["mode"] for row in found):
        of_mode = [row for row in found if row["mode"] == mode]
        theirs, ours = (sum(row[side] for row in of_mode) for side in ("peer, s", "autotag, s"))
        counts = [sum(row[what] for row in of_mode)
                  for what in ("same prompt", "same text", "steps", "same choices")]  # fmt: skip
        difference = max(row["largest difference"] for row in of_mode)
        rows.append([mode, len(of_mode), *counts, difference, theirs, ours, theirs / ours,
                     in_batches.get(mode)])  # fmt: skip
    equal = all(row["same prompt"] and row["same choices"] for row in found)
    close = all(row["largest difference"] <= CLOSE for row in found)
    name = "interrogator_parity_full_size" if given.full_size else "interrogator_parity"
    findings = {"clip-interrogator": peer_version, "identical": equal, "similarities within 1e-5": close,
                "answers": found}  # fmt: skip
    if given.full_size and (given.device, given.architecture) != ("cpu", "ViT-B-32"):
        name += f"_{given.architecture}_{given.device}".lower()
    given.peer, given.cache = Path(given.peer).name, given.cache.name
    report(name, given, columns, rows, findings=findings)
    if not (equal and close):
        sys.exit("not the same answers")


if __name__ == "__main__":
    main()
