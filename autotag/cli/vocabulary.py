"""``autotag vocabulary``: look at lists of labels, and make one from prompts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.options import overwrite_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.vocabularies.mining import PhraseCount
    from autotag.vocabularies.vocabulary import Vocabulary


@click.group()
def vocabulary() -> None:
    """Show the bundled lists of labels, or make your own."""


@vocabulary.command("list")
def list_bundled() -> None:
    """Name the bundled lists and say how many labels each holds."""
    from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

    for name in BUNDLED:
        click.echo(f"{name:<12}{len(Vocabulary.bundled(name)):>7,}")
    dead = len(Vocabulary.bundled("artists", living_artists=False))
    click.echo(f"Without living artists, artists holds {dead:,}.")


@vocabulary.command()
@click.argument("source", metavar="NAME|FILE")
@click.option("--column", metavar="NAME", help="The column of a .csv or .tsv file; its first row names them.")
@click.option("--no-living-artists", is_flag=True, help="Leave living artists out of the bundled artists.")
@click.option(
    "--language",
    "languages",
    metavar="CODE,...",
    default="",
    help="Also print the labels in these languages; of a file, all that it has, unless given.",
)
def show(source: str, *, column: str | None, no_living_artists: bool, languages: str) -> None:
    """Print the labels of a bundled list or of a file, one per line.

    The number of labels, and of repetitions left out, goes to stderr. The output is in the format that
    autotag reads: redirect it to a file and edit it.
    """
    from autotag.vocabularies.vocabulary import BUNDLED

    found = _vocabulary(source, column, living_artists=not no_living_artists)
    codes = _codes(languages, found)
    for label in found:
        broader = found.broader.get(label, ())
        if codes:
            named = {code: found.label_in(code, label) for code in codes}
        else:
            named = (
                {} if source in BUNDLED else {code: of.get(label) for code, of in found.translations.items()}
            )
        others = (f"label.{code}: {name}" for code, name in named.items() if name)
        names = " | ".join([*found.names(label), *others])
        click.echo(_shown(f"{names} < {' | '.join(broader)}" if broader else names))
    left_out = f", {found.repeated:,} repeated ones left out" if found.repeated else ""
    click.echo(f"{len(found):,} labels{left_out}", err=True)


def _codes(languages: str, named: Vocabulary) -> list[str]:
    """Return the codes of languages, separated by commas, in which a vocabulary has labels.

    Raises:
        ConfigError: one is not the code of a language, or the vocabulary has no labels in it.
    """
    from autotag.errors import ConfigError, suggestion
    from autotag.vocabularies.label_files import language_code

    codes = [language_code(code, "--language") for code in languages.split(",")] if languages else []
    for code in codes:
        if not {code, code.partition("-")[0]} & set(named.translations):
            near = suggestion(code, sorted(named.translations)) if named.translations else ""
            raise ConfigError(
                f"--language: vocabulary {named.name!r} has no labels in {code!r}. {near}".strip()
            )
    return codes


@vocabulary.command()
@click.argument("prompts", metavar="PROMPTS", type=click.Path(path_type=Path))
@click.option(
    "--column",
    metavar="NAME",
    help="The column of a .csv or .tsv file that holds the prompts; prompt unless given. "
    "Any other file has a prompt per line.",
)
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="Write here instead of to stdout."
)
@overwrite_option
@click.option(
    "--least-count",
    metavar="N",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Leave out phrases that are in fewer prompts.",
)
@click.option("--most", metavar="N", type=click.IntRange(min=1), help="Keep only the N most common phrases.")
@click.option(
    "--no-subjects", is_flag=True, help="Leave out the first part of every prompt, which names the subject."
)
def build(
    prompts: Path,
    *,
    column: str | None,
    output: Path | None,
    overwrite: bool,
    least_count: int,
    most: int | None,
    no_subjects: bool,
) -> None:
    """Make a vocabulary of the phrases in prompts, most common first.

    Prompts are split at commas and similar separators; weights such as (word:1.2), <lora:...>, options such
    as --ar 16:9 and URLs are removed. Phrases with the same count are in alphabetical order.
    """
    from autotag.errors import ConfigError
    from autotag.vocabularies.mining import mine_phrases, read_prompts

    found = read_prompts(prompts, column=column)
    phrases = mine_phrases(found, least_count=least_count, most=most, subjects=not no_subjects)
    if not phrases:
        raise ConfigError(
            f"no phrase is in at least {least_count} of the {len(found):,} prompts of {prompts}; "
            "choose a smaller --least-count"
        )
    _write(phrases, output, prompts, overwrite=overwrite)
    plurals = ["" if number == 1 else "s" for number in (len(phrases), len(found))]
    click.echo(f"{len(phrases):,} phrase{plurals[0]} from {len(found):,} prompt{plurals[1]}", err=True)


def _vocabulary(source: str, column: str | None, *, living_artists: bool) -> Vocabulary:
    from autotag.errors import ConfigError, UnknownNameError
    from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

    bundled = next((name for name in BUNDLED if name == source), None)
    if bundled is not None:
        if column is not None:
            raise ConfigError(f"{source} is a bundled list: it has no column {column!r}")
        return Vocabulary.bundled(bundled, living_artists=living_artists)
    if not Path(source).exists() and not Path(source).suffix:
        raise UnknownNameError("bundled vocabulary", source, BUNDLED)
    if not living_artists:
        raise ConfigError(
            f"--no-living-artists is for the bundled artists: {source} does not say who is alive"
        )
    return Vocabulary.from_file(source, column=column)


def _write(phrases: Sequence[PhraseCount], output: Path | None, prompts: Path, *, overwrite: bool) -> None:
    """Write the phrases; refuse to overwrite the file that they come from."""
    from autotag.errors import ConfigError
    from autotag.writers.output_file import check_replaceable, open_output

    if output is None:
        for phrase in phrases:
            click.echo(_shown(phrase.text))
        return
    if output.exists() and output.samefile(prompts):
        raise ConfigError(f"{output} holds the prompts; write the vocabulary to another file")
    check_replaceable(output, overwrite=overwrite)
    with open_output(output, streams=False) as stream:
        stream.writelines(f"{phrase.text}\n" for phrase in phrases)


def _shown(text: str) -> str:
    """Return a line as it is for a file, and fit for a terminal where it goes to one."""
    from autotag.writers.one_line import one_line

    return one_line(text) if sys.stdout.isatty() else text
