"""CLIP Interrogator's half of interrogator_parity.py, run by the Python in which its package is installed.

    python interrogator_peer.py            prints the folder that holds the package, and its version
    python interrogator_peer.py JOB.json   interrogates photographs, writes what it chose at every step

It uses the package as it comes and imports nothing of autotag. Its methods are only listened to.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")  # two on every call, see its sources


def main() -> None:
    spec = find_spec("clip_interrogator")
    if spec is None or not spec.origin:
        sys.exit("clip_interrogator is not installed")
    if len(sys.argv) == 1:
        print(Path(spec.origin).parent.parent, version("clip-interrogator"))
        return
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers = interrogated(job)
    Path(job["answers"]).write_text(json.dumps(answers), encoding="utf-8")


def interrogated(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Per photograph and mode: the prompt, [text chosen, similarity] of every step, seconds."""
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    peer, steps = listened_to(job)
    answers = []
    for photograph in job["photographs"]:
        image = Image.open(photograph["path"]).convert("RGB")
        for mode in job["modes"]:
            steps.clear()
            start = clock(job["device"])
            prompt = asked(peer, mode, image, photograph["caption"])
            taken = clock(job["device"]) - start
            answers.append(
                {**photograph, "mode": mode, "prompt": prompt, "steps": [*steps], "seconds": taken}
            )
            print(f"{Path(photograph['path']).name} {mode}: {taken:.1f} s", file=sys.stderr)
    return answers


def clock(device: str) -> float:
    """Seconds of processor time; on a GPU of wall time, once it is idle."""
    import torch

    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def listened_to(job: dict[str, Any]) -> tuple[Any, list[tuple[str, float]]]:
    """The interrogator, and the list to which it adds each text whose similarity it looks at."""
    import open_clip
    from clip_interrogator import Config, Interrogator

    steps: list[tuple[str, float]] = []

    class Listened(Interrogator):  # type: ignore[misc]
        def similarity(self, image_features: Any, text: str) -> float:
            found: float = super().similarity(image_features, text)
            steps.append((text, found))
            return found

    os.chdir(job["folder"])  # a name may hold one slash, so a model in a folder is named from beside it
    model, _, preprocess = open_clip.create_model_and_transforms(
        job["architecture"], pretrained=job["weights"], device=job["device"]
    )
    config = Config(
        caption_model_name=None,
        clip_model_name=f"{job['architecture']}/parity",
        cache_path=job["cache"],
        download_cache=False,
        data_path=job["lists"],
        device=job["device"],
        flavor_intermediate_count=job["candidates"],
        quiet=True,
    )
    config.clip_model, config.clip_preprocess = model.eval(), preprocess
    return Listened(config), steps


def asked(peer: Any, mode: str, image: Any, caption: str) -> str:
    if mode == "negative":
        return str(peer.interrogate_negative(image))
    way = {"best": peer.interrogate, "fast": peer.interrogate_fast, "classic": peer.interrogate_classic}
    return str(way[mode](image, caption=caption))


if __name__ == "__main__":
    main()
