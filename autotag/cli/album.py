"""``autotag album``: tags a whole album so that nothing is lost."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autotag.cli.index import EMBED_STAGE, embedding_pipeline, embeds, optional_index_option
from autotag.cli.inputs import given
from autotag.cli.options import (
    SOME_FAILED,
    adopt_option,
    deterministic_option,
    device_option,
    follow_symlinks_option,
    language_option,
    moderate_option,
    preset_option,
    quiet_option,
    reading_options,
    set_option,
    state_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autotag.albums import WriterChoice
    from autotag.cli.signals import Stop


@click.command(
    epilog="""\b
Exit codes:
  0    every photograph is done
  1    some failed, or the disk is full; the lines on stderr say why
  2    could not run: a bad option, a missing model, no image found, or another run is writing the album
  130  interrupted with Ctrl-C; everything so far is safe
  129  ended by SIGHUP, or 143 by SIGTERM; likewise"""
)
@click.argument("sources", metavar="FOLDER...", nargs=-1, required=True)
@click.option(
    "--write",
    "writers",
    metavar="WRITER[=FILE]",
    multiple=True,
    help="What to write: xmp (sidecars), txt, rename; or for the whole album jsonl, csv, parquet, json, "
    "each also as NAME=FILE. May be repeated. By default xmp.",
)
@click.option(
    "--writer-set",
    "writer_settings",
    metavar="WRITER.OPTION=VALUE",
    multiple=True,
    help="An option of a writer, such as txt.mode=append, csv.layout=image_prompt or rename.by=caption.",
)
@click.option(
    "--embed", is_flag=True, help="Write XMP into the photographs themselves if nothing is lost by it."
)
@click.option(
    "--rules",
    metavar="FILE.toml",
    help="Rules for tags: deny list, replacements, hierarchy; what is written for flagged photographs.",
)
@language_option
@moderate_option
@preset_option()
@click.option(
    "--learn",
    "learns",
    is_flag=True,
    help="First learn the keywords that people gave in this album, and suggest them for the others.",
)
@set_option("Change an option of a stage, such as filter_tags.top_k=5. May be repeated.")
@device_option
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Images per model call.")
@click.option("--include", metavar="GLOB", multiple=True, help="Only files that match, by name or path.")
@click.option("--exclude", metavar="GLOB", multiple=True, help="Leave out files and folders that match.")
@reading_options
@deterministic_option
@follow_symlinks_option
@click.option("--dry-run", is_flag=True, help="Print what would be done; write nothing.")
@click.option(
    "--plan",
    "plan_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write what would be done to a file; edit it, then run `autotag apply`.",
)
@optional_index_option("Also fill an index for `autotag search`, in the same pass")
@click.option("--redo", is_flag=True, help="Tag every photograph again, also unchanged ones.")
@state_option(
    "The folder for the ledger and the journal of each album, which `autotag undo` reads; by default in "
    "the user's state folder, or in the album if it has a folder .autotag."
)
@adopt_option
@click.option("--ndjson", is_flag=True, help="One JSON object per photograph on stdout.")
@quiet_option
@click.pass_context
def album(
    ctx: click.Context,
    sources: tuple[str, ...],
    *,
    writers: tuple[str, ...],
    writer_settings: tuple[str, ...],
    embed: bool,
    rules: str | None,
    languages: tuple[str, ...],
    moderate: bool,
    preset: str,
    learns: bool,
    settings: tuple[str, ...],
    device: str | None,
    batch_size: int | None,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    allow_truncated: bool | None,
    max_pixels: int | None,
    deterministic: bool | None,
    follow_symlinks: bool,
    dry_run: bool,
    plan_file: Path | None,
    index_file: Path | None,
    redo: bool,
    state: Path | None,
    adopt: bool,
    ndjson: bool,
    quiet: bool,
) -> None:
    """Tag every photograph of an album, and write what was found beside or into it.

    FOLDER is a folder, a zip archive, a glob in quotes, files, or - for paths on stdin. A photograph that is
    done and unchanged is skipped; an interrupted run continues where it stopped. `autotag undo` reverts
    everything.
    """
    from autotag.albums import tag_folder
    from autotag.albums.rules import AlbumRules
    from autotag.cli.album_lesson import AlbumLesson, is_of_lesson
    from autotag.cli.album_progress import AlbumListener, bookkeeping, report_summary
    from autotag.cli.pipelines import pipeline_of
    from autotag.cli.progress import Reporter
    from autotag.cli.signals import stoppable

    if dry_run and plan_file is not None:
        raise click.UsageError("--dry-run and --plan exclude each other; choose one.")
    if index_file is not None and (dry_run or plan_file is not None):
        raise click.UsageError("--index needs a run that writes, without --dry-run and --plan.")
    reporter = Reporter(quiet=quiet)
    choices = writer_choices(writers or ("xmp",), writer_settings, embed=embed)
    album_rules = AlbumRules.read(rules) if rules else None
    listener = AlbumListener(reporter, ndjson=ndjson, show=dry_run)
    changes = {
        "device": device,
        "batch_size": batch_size,
        "allow_truncated": allow_truncated,
        "max_pixels": max_pixels,
        "deterministic": deterministic,
    }
    build = embedding_pipeline if index_file is not None else pipeline_of
    of_lesson = [setting for setting in settings if learns and is_of_lesson(setting)]
    settings = tuple(setting for setting in settings if setting not in of_lesson)
    with ExitStack() as stack:
        pipeline = stack.enter_context(
            build(preset, changes, settings, moderate=moderate, languages=languages)
        )
        stack.enter_context(reporter.passing_on_warnings())
        named = list(given(sources))
        if learns:
            lesson = AlbumLesson(
                named, include, exclude, follow_symlinks, state, adopt, index_file, reporter,
                settings=of_lesson, dry_run=dry_run,
            )  # fmt: skip
            pipeline = stack.enter_context(lesson.taught_to(pipeline, stack))
        with stoppable() as stop, listener.counting(), bookkeeping():
            indexer = None
            if index_file is not None:
                from autotag.search.album_index import AlbumIndex
                from autotag.search.index import Index

                index = stack.enter_context(Index.open(index_file))
                indexer = AlbumIndex(index, pipeline, reporter.complain, stop)
            summary = tag_folder(
                named,
                pipeline=pipeline,
                writers=choices,
                rules=album_rules,
                include=include,
                exclude=exclude,
                follow_symlinks=follow_symlinks,
                state=state,
                model=Path(preset).stem,
                redo=redo,
                dry_run=dry_run,
                plan_file=plan_file,
                adopt=adopt,
                indexer=indexer,
                aside=() if embeds(preset) else (EMBED_STAGE,),
                listener=listener,
                stop=stop,
            )
            if indexer is not None:
                indexer.flush()
        report_summary(summary, reporter, planned=dry_run or plan_file is not None)
        if indexer is not None:
            reporter.inform(f"{indexer.added} indexed; {len(indexer.index)} in the index")
    ctx.exit(exit_code(summary.stopped, summary.failed, stop))


def exit_code(stopped: str, failed: int, stop: Stop) -> int:
    """Return 0, 1 when some failed or the run ended early, 130 after Ctrl-C, 129 and 143 after signals."""
    if stopped == "interrupted":
        return stop.exit_code
    return SOME_FAILED if failed or stopped else 0


def writer_choices(
    named: Sequence[str], settings: Sequence[str], *, embed: bool
) -> list[str | WriterChoice | Any]:
    """Return the writers and options of the command line."""
    from autotag.albums import WriterChoice
    from autotag.errors import UnknownNameError
    from autotag.pipeline import presets

    options: dict[str, dict[str, Any]] = presets.parse_overrides(settings)
    files = dict(_name_and_file(one) for one in named)
    if embed:
        if "xmp" not in files:
            raise click.UsageError("--embed needs --write xmp.")
        options = {**options, "xmp": {"embed": True, **options.get("xmp", {})}}
    for name in options:
        if name not in files:
            raise UnknownNameError("writer of this run:", name, files)
    return [WriterChoice(name, file, options.get(name, {})) for name, file in files.items()]


def _name_and_file(text: str) -> tuple[str, Path | None]:
    name, equals, file = text.partition("=")
    if equals and not file:
        raise click.UsageError(f"--write {text}: a file must follow the =.")
    return name, Path(file) if file else None
