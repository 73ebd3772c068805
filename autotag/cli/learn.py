"""``autotag learn``: learns the keywords that people gave to their photographs."""

from __future__ import annotations

import os
from collections import ChainMap
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autotag.cli.options import (
    device_option,
    follow_symlinks_option,
    preset_option,
    quiet_option,
    state_option,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.cli.progress import Reporter
    from autotag.learning.lesson import Lesson
    from autotag.learning.photographs import KeywordedPhoto
    from autotag.protocols import ImageTextEncoder

_TABLES = (".csv", ".jsonl", ".json", ".parquet", ".txt")
_SHOWN = 20


@click.command(
    epilog="""\b
Exit codes:
  0    keywords were learned and the file is written
  1    nothing could be learned; nothing is written
  2    could not run: bad input or option, a missing model
  130  interrupted with Ctrl-C"""
)
@click.argument("photos", metavar="[PHOTOS]...", nargs=-1, type=click.Path(path_type=Path))
@preset_option("Whose encoder.")
@click.option(
    "--output",
    metavar="FILE.tags",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="The file to write, for the stage suggest_keywords.",
)
@click.option("--overwrite", is_flag=True, help="Replace the output file if it exists.")
@click.option(
    "--min-photos",
    metavar="N",
    type=click.IntRange(min=2),
    default=8,
    show_default=True,
    help="Refuse keywords of fewer photographs.",
)
@click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    help="Keywords to leave out, with * and ?: 'People|*'. May be repeated.",
)
@click.option(
    "--corrections",
    metavar="FOLDER|PLAN",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Learn from what people changed in this album, too, and from what they decided on the Review page "
    "about it or about this plan. May be repeated.",
)
@state_option("The --state folder of the runs of the albums that --corrections names.")
@click.option(
    "--index",
    "index_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Use the vectors of this index again; without PHOTOS, its keywords, too.",
)
@follow_symlinks_option
@device_option
@quiet_option
@click.pass_context
def learn(
    ctx: click.Context,
    photos: tuple[Path, ...],
    *,
    preset: str,
    output: Path,
    overwrite: bool,
    min_photos: int,
    exclude: tuple[str, ...],
    corrections: tuple[Path, ...],
    state: Path | None,
    index_file: Path | None,
    follow_symlinks: bool,
    device: str | None,
    quiet: bool,
) -> None:
    """Learn the keywords that people gave to their photographs, to suggest them for others.

    PHOTOS are folders and files, whose keywords and sidecars are read, or a data set with tags: a CSV,
    JSONL, JSON or Parquet file, or a folder with metadata.jsonl. Tags that autotag wrote teach nothing; those
    that people took out teach where a keyword does not fit. Keywords that no test finds better than chance
    are refused and listed. To use the file: the stage suggest_keywords.
    """
    from autotag.cli.progress import Reporter
    from autotag.errors import ConfigError
    from autotag.learning.decided import in_decisions
    from autotag.learning.photographs import left_in
    from autotag.learning.written import written_by_runs

    if not output.parent.is_dir():
        raise ConfigError(f"--output {str(output)!r}: there is no folder {str(output.parent)!r}.")
    if not os.access(output.parent, os.W_OK):
        raise ConfigError(f"--output {str(output)!r}: the folder {str(output.parent)!r} cannot be written.")
    if output.exists() and not overwrite:
        raise ConfigError(f"{str(output)!r} exists already; name another --output, or use --overwrite.")
    if not photos and index_file is None and not corrections:
        raise click.UsageError("name PHOTOS to learn from, or an --index.")
    reporter = Reporter(quiet=quiet)
    with reporter.passing_on_warnings():
        decisions = [in_decisions(source, state=state) for source in corrections]
        decided = [photo for one in decisions for photo in one.photos]
        encoder, name = _encoder(preset, device)
        folders = [source for source in corrections if source.is_dir()]
        written = dict(ChainMap(*(written_by_runs(folder, state=state) for folder in folders)))
        found = _keyworded(
            photos,
            folders,
            decided,
            written,
            index_file=index_file,
            encoder=encoder,
            follow_symlinks=follow_symlinks,
        )
        left = left_in(found)
        for one in decisions:
            left |= one.left
        found = [photo for photo in found if photo.teaches]
        _check_some(found)
        lesson = lesson_of(found, encoder, reporter, exclude=exclude, min_photos=min_photos, left=left)
    if not lesson.learned.is_empty:
        try:
            replace(lesson.learned, encoder_name=name).save(output)
        except OSError as error:
            raise ConfigError(f"cannot write {str(output)!r}: {error.strerror or error}.") from error
    _report(lesson, output, reporter)
    ctx.exit(1 if lesson.learned.is_empty else 0)


def lesson_of(
    found: Sequence[KeywordedPhoto],
    encoder: ImageTextEncoder,
    reporter: Reporter,
    *,
    exclude: Sequence[str] = (),
    min_photos: int = 8,
    left: Mapping[str, int] | None = None,
) -> Lesson:
    """Return what photographs, at least one, teach; a bar shows how far it is.

    ``left`` counts the photographs in which people left a machine tag, by its normal form.

    Raises:
        ImageReadError: none of them can be read.
    """
    from autotag.learning.events import events
    from autotag.learning.lesson import learn as learned
    from autotag.learning.photographs import embedded
    from autotag.learning.teaching import teaching

    with reporter.counting(sum(photo.vector is None for photo in found)):
        kept, vectors = embedded(found, encoder, on_image=reporter.advance)
    taught = teaching([one.keywords for one in kept], [one.removed for one in kept], exclude=exclude)
    groups = events([one.folder for one in kept], [one.taken for one in kept], vectors)
    return learned(taught, vectors, groups, encoder, min_photos=min_photos, standing=left)


def _encoder(preset: str, device: str | None) -> tuple[ImageTextEncoder, str]:
    """Return the encoder of a preset, loaded where the preset says, and its name; "" for a local folder."""
    from autotag.models.names import parse_name
    from autotag.models.pool import ModelPool
    from autotag.pipeline.pipeline import DEFAULT_ENCODER
    from autotag.pipeline.presets import read_preset

    table = read_preset(preset)
    name = table.get("encoder", DEFAULT_ENCODER)
    placed = {"device": device or table.get("device", "auto"), "dtype": table.get("dtype", "auto")}
    encoder = ModelPool(encoder=name, **placed).encoder()
    address = parse_name(str(name), "encoder")
    return encoder, "" if address.folder and address.card is None else address.name


def _keyworded(
    photos: Sequence[Path],
    corrections: Sequence[Path],
    decided: Sequence[KeywordedPhoto],
    written: Mapping[str, tuple[str, ...]],
    *,
    index_file: Path | None,
    encoder: ImageTextEncoder,
    follow_symlinks: bool,
) -> list[KeywordedPhoto]:
    """Return the photographs, each file once; people said something about some of them."""
    from autotag.evaluation.datasets import read_dataset
    from autotag.images.reading import find_images
    from autotag.learning.decided import with_decisions
    from autotag.learning.photographs import check_index, in_dataset, in_files, in_index, with_vectors_of
    from autotag.learning.written import with_runs
    from autotag.search import Index

    tables = [path for path in photos if _is_dataset(path)]
    folders = [path for path in (*photos, *corrections) if path not in tables]
    found = [photo for table in tables for photo in in_dataset(read_dataset(table))]
    images = find_images(*folders, follow_symlinks=follow_symlinks, raw=True) if folders else ()
    files = {os.path.abspath(image): image for image in images}  # noqa: PTH100 - links stay links
    in_both = {path: photo for photo in found if (path := _file_of(photo)) in files}
    found = [photo for photo in found if _file_of(photo) not in files]
    in_folders = (
        replace(photo, keywords=photo.keywords | twin.keywords)
        if (twin := in_both.get(_file_of(photo))) is not None
        else photo
        for photo in in_files(files.values())
    )
    found += with_decisions(with_runs(in_folders, written), decided)
    if index_file is not None:
        with Index.open(index_file, create=False) as index:
            check_index(index, encoder)
            found = with_vectors_of(found, index)
            if not photos:
                known = {os.path.abspath(photo.name) for photo in found}  # noqa: PTH100 - as in the index
                found += [photo for photo in in_index(index) if photo.name not in known]
    return found


def _file_of(photo: KeywordedPhoto) -> str:
    """Return the absolute path of a photograph, also of one in a data set; "" for one without a file."""
    return os.path.abspath(photo.image) if isinstance(photo.image, os.PathLike) else ""  # noqa: PTH100


def _is_dataset(path: Path) -> bool:
    return path.suffix.lower() in _TABLES or (path / "metadata.jsonl").is_file()


def _check_some(found: Sequence[KeywordedPhoto]) -> None:
    """Refuse input without a keyword.

    Raises:
        ConfigError: naming what is looked for.
    """
    from autotag.errors import ConfigError

    if not found:
        raise ConfigError(
            "no photograph has a keyword that a person gave. Keywords are read from XMP, IPTC, Exif and "
            "sidecars; tags that autotag wrote do not count."
        )


def _report(lesson: Lesson, output: Path, reporter: Reporter) -> None:
    """Print the learned keywords to stdout, what was refused and why to stderr."""
    from autotag.writers.one_line import one_line

    learned = lesson.learned
    for keyword in learned.keywords:
        precision = f"AP {keyword.average_precision:.2f} ({keyword.low:.2f} to {keyword.high:.2f})"
        click.echo(f"{one_line(str(keyword))}\t{keyword.photographs} photographs\t{precision}")
    complain_of_refused(lesson, reporter)
    if learned.unwanted:
        words = ", ".join(map(one_line, learned.unwanted[:_SHOWN]))
        reporter.inform(f"no longer proposed, since people took them out of most photographs: {words}")
    if not learned.is_empty:
        reporter.inform(
            f"{len(learned.keywords)} keywords of {learned.photographs} photographs, written: {output}"
        )


def complain_of_refused(lesson: Lesson, reporter: Reporter) -> None:
    """Print what was refused and why to stderr, 20 keywords at most."""
    for refused in lesson.refused[:_SHOWN]:
        reporter.complain(f"not learned: {refused}: {refused.reason}")
    if len(lesson.refused) > _SHOWN:
        reporter.complain(f"not learned: {len(lesson.refused) - _SHOWN} more keywords")
