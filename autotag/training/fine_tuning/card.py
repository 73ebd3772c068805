"""The card of a fine-tuned model: ``fine_tuning.json`` for programs and ``README.md`` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from autotag.errors import DISTRIBUTION
from autotag.files.replacing import appearing
from autotag.training.fine_tuning.run_folder import CARD

_PACKAGES = (DISTRIBUTION, "torch", "transformers", "open_clip_torch", "peft")


def write_card(output: Path, card: Mapping[str, Any]) -> None:
    """Write both files; ``fine_tuning.json`` is the last file of a finished run.

    Args:
        output: the model's folder.
        card: as JSON can write it; see ``fine_tune``.
    """
    with appearing(output / "README.md") as stream:
        stream.write(_readme(card).encode())
    with appearing(output / CARD) as stream:
        stream.write((json.dumps(card, indent=2) + "\n").encode())


def versions() -> dict[str, str]:
    """Return the versions of the packages that made the model."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _readme(card: Mapping[str, Any]) -> str:
    base, data, training = card["base"], card["data"], card["training"]
    lines = [
        "---",
        f"base_model: {json.dumps(base['name'])}",
        "library_name: autotag",
        "---",
        "",
        f"# {base['name']}, fine-tuned",
        "",
        (
            f"The {card['kind']} was fine-tuned by `autotag train` on {data['photographs']} photographs "
            f"of `{data['name']}` in {training['steps']} steps. The weights are the old ones plus "
            f"{card['share']:g} of the learned change."
        ),
        "",
        f"Licence of the base model: {base['licence'] or 'not known; look at its own card'}.",
        "",
        "## Figures",
        "",
        "| photographs | figure | before | after |",
        "|---|---|---|---|",
    ]
    for name, both in card["figures"].items():
        lines += [
            f"| {name} | {figure} | {before:.3f} | {both['after'][figure]:.3f} |"
            for figure, before in both["before"].items()
        ]
    lines += [
        "",
        f"`held out`: {data['held_out']} photographs of the same set that were not trained on"
        + (", by which the share was chosen." if card["mixtures"] else "."),
        "",
        "## Data",
        "",
        f"SHA-256 of photographs, captions and tags: `{data['sha256']}`.",
        "",
        f"All settings are in `{CARD}`.",
    ]
    return "\n".join(lines) + "\n"
