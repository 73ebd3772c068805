"""Records what open_clip's own ``CoCa.generate`` writes, for ``test_coca_generation.py``.

``generate`` needs ``BeamSearchScorer``, which transformers 5 has no more. So an older transformers is put in
front of the installed one, for this script only; torch and open_clip stay the installed ones::

    pip install --no-deps --target OLD transformers==4.44.2 "tokenizers<0.20" "huggingface_hub<1"
    pip install --target OLD requests
    PYTHONPATH=OLD python tests/models/record_coca_references.py

The model is ``tiny_models.coca``, the images are ``images()`` below: both are the same wherever numpy is.
It writes ``coca_references.json`` beside itself: per case the settings and, per image, the tokens that stand
between the start and the first end token. 6 beams in 3 groups are open_clip's default.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from PIL import Image

REFERENCES = Path(__file__).with_name("coca_references.json")
START, END = 49406, 49407
BEAMS: tuple[dict[str, Any], ...] = (
    {"num_beams": 2, "num_beam_groups": 1},
    {"num_beams": 3, "num_beam_groups": 1},
    {"num_beams": 6, "num_beam_groups": 1},
    {"num_beams": 6, "num_beam_groups": 3},
    {"num_beams": 3, "num_beam_groups": 1, "repetition_penalty": 1.4},
    {"num_beams": 4, "num_beam_groups": 1, "min_seq_len": 1},
    {"num_beams": 3, "num_beam_groups": 1, "min_seq_len": 9},
    {"num_beams": 3, "num_beam_groups": 1, "seq_len": 30},
)
GREEDY: tuple[dict[str, Any], ...] = (
    {},
    {"repetition_penalty": 1.4},
    {"min_seq_len": 9},
    {"seq_len": 30},
)
ENDS = (0.0, 8.0, 10.5, 12.0)
"""How likely the end token is: never, and more and more."""


def images() -> list[Image.Image]:
    """Six noisy images as large as the model looks at, so that no resize can differ."""
    random = np.random.RandomState(1)
    return [Image.fromarray(random.randint(0, 256, (32, 32, 3)).astype(np.uint8)) for _ in range(6)]


def main() -> None:
    import open_clip
    import transformers

    sys.path.insert(0, str(Path(__file__).parent))
    import tiny_models

    cases = []
    for ends in ENDS:
        with TemporaryDirectory() as parent:
            folder = tiny_models.coca(Path(parent) / "coca", ends=ends)
            model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
        pixels = torch.stack([preprocess(image) for image in images()])
        searches = [
            *({"generation_type": "beam_search", **given} for given in BEAMS),
            *({"generation_type": "top_k", "top_k": 1, **given} for given in GREEDY),
        ]
        for given in searches:
            settings = {"seq_len": 14, "min_seq_len": 5, **given}
            written = model.eval().generate(pixels, **settings).tolist()
            cases.append({"ends": ends, "settings": settings, "tokens": [between(row) for row in written]})
    versions = {
        module.__name__: module.__version__.partition("+")[0] for module in (open_clip, torch, transformers)
    }
    rows = ",\n".join(f"    {json.dumps(case)}" for case in cases)
    REFERENCES.write_text(f'{{\n  "versions": {json.dumps(versions)},\n  "cases": [\n{rows}\n  ]\n}}\n')
    print(f"{len(cases)} cases in {REFERENCES}")  # noqa: T201


def between(row: list[int]) -> list[int]:
    """What stands after the start token and before the first end token."""
    assert row[0] == START
    return row[1 : row.index(END) if END in row else None]


if __name__ == "__main__":
    main()
