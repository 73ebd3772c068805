"""``autotag models``: lists presets, models and plug-ins."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Literal

import click

from autotag.cli.options import table_or_json_option
from autotag.cli.tables import terminal_width
from autotag.models.loading.hub import size_in_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.pipeline.inventory import ModelEntry, PresetEntry

BUNDLED_LICENCE = (
    "The weights of blip-mini and clip-mini were trained on data for research use only. The licence of "
    "autotag (Apache-2.0) covers its code, not bundled weights; each has a LICENSE file and a model card "
    "beside it."
)


@click.command()
@table_or_json_option
def models(format_name: Literal["table", "json"]) -> None:
    """List presets, models and plug-ins: size, licence, on this machine or not."""
    from autotag.config import registry
    from autotag.pipeline import inventory

    presets = inventory.preset_entries()
    entries = inventory.model_entries(presets)
    plugins = registry.plugins()
    if format_name == "json":
        click.echo(json.dumps(_as_data(presets, entries, plugins), ensure_ascii=False, indent=2))
    else:
        _print_for_people(presets, entries, plugins)


def _as_data(
    presets: Sequence[PresetEntry], entries: Sequence[ModelEntry], plugins: Sequence[tuple[str, str, str]]
) -> dict[str, Any]:
    return {
        "presets": [
            {
                "name": preset.name,
                "stages": list(preset.stages),
                "models": list(preset.models),
                "size": preset.size,
                "present": preset.present,
            }
            for preset in presets
        ],
        "models": [_model_as_data(entry) for entry in entries],
        "plugins": [{"kind": kind, "name": name, "package": package} for kind, name, package in plugins],
        "bundled_licence": BUNDLED_LICENCE,
    }


def _model_as_data(entry: ModelEntry) -> dict[str, Any]:
    card = entry.card
    return {
        "name": card.name,
        "kind": card.kind,
        "source": card.source,
        "revision": card.revision,
        "licence": card.licence,
        "origin": card.origin,
        "size": entry.size,
        "bundled": card.bundled,
        "remote": card.remote,
        "present": entry.present,
        "presets": list(entry.presets),
    }


def _print_for_people(
    presets: Sequence[PresetEntry], entries: Sequence[ModelEntry], plugins: Sequence[tuple[str, str, str]]
) -> None:
    """Print two lines per preset and model, the facts and its parts, and a line per part of a plug-in."""
    from autotag.writers.text_table import text_table

    click.secho("Presets", bold=True)
    _echo_rows([(_preset_facts(preset), f"stages {', '.join(preset.stages)}") for preset in presets])
    click.secho("\nModels", bold=True)
    _echo_rows([(_model_facts(entry), f"{entry.card.licence}; {entry.card.origin}") for entry in entries])
    if plugins:
        click.secho("\nPlug-ins", bold=True)
        rows = [(name, kind, f"from {package}") for kind, name, package in plugins]
        click.echo(textwrap.indent(text_table(rows), "  ").rstrip())
    click.echo(f"\n{_wrapped(BUNDLED_LICENCE)}")


def _preset_facts(preset: PresetEntry) -> tuple[str, ...]:
    """Return name, size, whether everything is on this machine, and the models."""
    here = "here" if preset.present else "not here"
    return preset.name, size_in_words(preset.size), here, ", ".join(preset.models)


def _model_facts(entry: ModelEntry) -> tuple[str, ...]:
    """Return name, kind, size, whether it is on this machine, and its presets."""
    here = ("bundled" if entry.card.bundled else "here") if entry.present else "not here"
    here = "remote" if entry.card.remote else here
    presets = f"for {', '.join(entry.presets)}" if entry.presets else ""
    return entry.card.name, entry.card.kind, size_in_words(entry.size), here, presets


def _echo_rows(rows: Sequence[tuple[tuple[str, ...], str]]) -> None:
    """Print aligned rows of cells, each with a remark below it."""
    from autotag.writers.text_table import text_table

    lines = text_table([cells for cells, _ in rows]).splitlines()
    for line, (_, remark) in zip(lines, rows, strict=True):
        click.echo(f"  {line}")
        click.secho(_wrapped(remark, indent="      "), dim=True)


def _wrapped(text: str, *, indent: str = "") -> str:
    """Wrap text for a terminal; return one line anywhere else."""
    width = terminal_width() or sys.maxsize
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent)
