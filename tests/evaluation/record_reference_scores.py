"""Records what pycocoevalcap 1.2 says of 500 caption sets, in reference_scores.json.

pycocoevalcap (104 MB, with Java programs) is not a dependency. Get it by `pip download --no-deps
pycocoevalcap==1.2`, unpack it, and run `PYTHONPATH=<folder> python record_reference_scores.py`. Only its pure
Python parts are used.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from autotag.evaluation.metrics.cider import caption_tokens

RECORD = Path(__file__).with_name("reference_scores.json")
SETS = 500
_WORDS = (  # noqa: SIM905  more to read as a list
    "a the two man woman dog dogs child's boy's red blue black and white runs running in on of with through "
    "grass water street ball bike city beach jumps plays wearing shirt next to 3 children mountain"
).split(" ")


def caption_sets() -> tuple[list[str], list[list[str]]]:
    """Captions and references: changed copies of sentences of 1 to 24 words, with marks and capitals."""
    chance = random.Random(20)  # noqa: S311  not a secret
    captions, references = [], []
    for _ in range(SETS):
        scene = _sentence(chance, chance.randint(1, 24))
        references.append([_written(chance, _changed(chance, scene)) for _ in range(chance.randint(1, 5))])
        unrelated = chance.random() < 0.1
        captions.append(_written(chance, _sentence(chance, 9) if unrelated else _changed(chance, scene)))
    return captions, references


def _sentence(chance: random.Random, words: int) -> list[str]:
    return chance.choices(_WORDS, k=words)


def _changed(chance: random.Random, scene: list[str]) -> list[str]:
    kept = [chance.choice(_WORDS) if chance.random() < 0.25 else word for word in scene]
    return [word for word in kept if chance.random() > 0.1] or scene


def _written(chance: random.Random, words: list[str]) -> str:
    return " ".join(words).capitalize() + chance.choice(["", ".", " !"])


def main() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    captions, references = caption_sets()
    given = {image: [" ".join(caption_tokens(caption))] for image, caption in enumerate(captions)}
    true = {
        image: [" ".join(caption_tokens(text)) for text in texts] for image, texts in enumerate(references)
    }
    bleu, _ = Bleu(4).compute_score(true, given, verbose=0)
    rouge_mean, rouge = Rouge().compute_score(true, given)
    cider_mean, cider = Cider().compute_score(true, given)
    record = {
        "by": "pycocoevalcap 1.2",
        "bleu_4": bleu[3],
        "rouge_l_mean": float(rouge_mean),
        "cider_d_mean": float(cider_mean),
        "rouge_l": [round(float(score), 10) for score in rouge],
        "cider_d": [round(float(score), 10) for score in cider],
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
