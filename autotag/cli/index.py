"""``autotag index``: makes photographs findable."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from autotag.cli.options import (
    SOME_FAILED,
    deterministic_option,
    device_option,
    follow_symlinks_option,
    language_option,
    preset_option,
    quiet_option,
    reading_options,
    set_option,
)
from autotag.cli.signals import like_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from autotag.cli.earlier_results import Sources
    from autotag.cli.progress import Reporter
    from autotag.errors import ConfigError, ImageReadError
    from autotag.pipeline.pipeline import Pipeline
    from autotag.search import Index, StoreIndex
    from autotag.search.updating import Plan

INDEX_VARIABLE = "AUTOTAG_INDEX"
EMBED_STAGE = "embed_images"
_SETTINGS = "settings"  # the fact about an index that is the fingerprint of its first pipeline
_DEFAULT = "\N{ZERO WIDTH SPACE}"  # in the place of a FILE that is not named


def index_option(command: Any) -> Any:
    """Add ``--index``, as a path."""
    words = f"The index; by default ${INDEX_VARIABLE}, else index.db in the user's data folder of autotag."
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option("--index", "index_file", metavar="FILE", type=kind, callback=_chosen, help=words)(
        command
    )


def store_options(command: Any) -> Any:
    """Add ``--store``, as ``store``, and ``--table``."""
    url = click.option(
        "--store",
        metavar="URL",
        help="A database server in the place of --index: postgresql://USER@HOST/DATABASE or qdrant://HOST. "
        "Passwords are read from $PGPASSWORD or ~/.pgpass, and $QDRANT_API_KEY.",
    )
    table = click.option(
        "--table",
        metavar="NAME",
        help="The store's table, SCHEMA.TABLE, or collection; by default photo.",
    )
    return url(table(command))


def open_index(
    ctx: click.Context,
    index_file: Path,
    store: str | None,
    table: str | None,
    *,
    create: bool = True,
    encoder: str | None = None,
    device: str | None = None,
) -> Index | StoreIndex:
    """Open the index that the options name: the file, or the store."""
    from autotag.search import Index, StoreIndex
    from autotag.search.store import TABLE

    if store is None:
        if table is not None:
            raise click.UsageError("--table is of a store; name the server with --store URL.")
        return Index.open(index_file, encoder=encoder, device=device or "auto", create=create)
    if ctx.get_parameter_source("index_file") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--index and --store are both given; an index is in one place.")
    return StoreIndex.open(
        store,
        table=TABLE if table is None else table,
        encoder=encoder,
        device=device or "auto",
        create=create,
    )


def optional_index_option(words: str) -> Callable[[Any], Any]:
    """Add ``--index [FILE]``, as a path: None without the option, the default index without a FILE.

    Args:
        words: what the command does with it.
    """
    return click.option(
        "--index",
        "index_file",
        metavar="[FILE]",
        is_flag=False,
        flag_value=_DEFAULT,
        type=click.Path(path_type=Path, dir_okay=False),
        callback=_named,
        help=f"{words}; without FILE, ${INDEX_VARIABLE}, else index.db in the user's data folder of autotag.",
    )


def _named(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    return default_index() if value == Path(_DEFAULT) else value


def _chosen(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path:
    return value or default_index()


def default_index() -> Path:
    """Return ``$AUTOTAG_INDEX``, else ``autotag/index.db`` in the user's data folder."""
    named = os.environ.get(INDEX_VARIABLE)
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        home = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        home = "~/Library/Application Support"
    else:
        home = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(home).expanduser() / "autotag" / "index.db"


@click.command(
    epilog="""\b
Exit codes:
  0    every photograph is in the index
  1    some could not be read; the index keeps the reasons
  2    could not run: a bad option, a missing model, another encoder than the index's
  130  interrupted with Ctrl-C; what was finished is in the index
  129  ended by SIGHUP, or 143 by SIGTERM; likewise"""
)
@click.argument("paths", metavar="[PATH]...", nargs=-1)
@click.option(
    "--from",
    "lists",
    metavar="FILE|FOLDER",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Also index what a file lists: paths and URLs, one a line; or results of an earlier run (.jsonl, "
    ".parquet, or a folder of `autotag tag --shard`), whose tags and captions are taken over.",
)
@index_option
@store_options
@preset_option()
@set_option("Change an option of a stage, such as filter_tags.top_k=5. May be repeated.")
@language_option
@device_option
@click.option("--batch-size", metavar="N", type=click.IntRange(min=1), help="Images per model call.")
@click.option("--allow-urls", is_flag=True, help="Fetch PATHs that are http(s) URLs.")
@click.option("--retry-errors", is_flag=True, help="Try again photographs that failed in an earlier run.")
@click.option("--prune", is_flag=True, help="Forget also photographs whose folder is missing or empty.")
@follow_symlinks_option
@reading_options
@deterministic_option
@quiet_option
@click.pass_context
def index(
    ctx: click.Context,
    paths: tuple[str, ...],
    *,
    lists: tuple[Path, ...],
    index_file: Path,
    store: str | None,
    table: str | None,
    preset: str,
    settings: tuple[str, ...],
    languages: tuple[str, ...],
    device: str | None,
    batch_size: int | None,
    allow_urls: bool,
    retry_errors: bool,
    prune: bool,
    follow_symlinks: bool,
    allow_truncated: bool | None,
    max_pixels: int | None,
    deterministic: bool | None,
    quiet: bool,
) -> None:
    """Tag and embed photographs, and store the results for `autotag search`.

    PATH is an image, a folder (searched with all its subfolders), a URL with --allow-urls, or - to read paths
    from stdin; --from takes them from lists. No photograph is changed. A second run reads only what is new or
    changed, sidecars included, follows moved photographs, and forgets deleted ones. After an interruption at
    any moment, the next run continues where it stopped.

    A photograph whose whole folder is missing or empty stays in the index, marked offline: the disk may not
    be mounted. --prune forgets it.
    """
    from autotag.cli.earlier_results import Sources
    from autotag.cli.progress import Reporter
    from autotag.errors import ImageReadError, SearchIndexError
    from autotag.search.updating import carry_out, make_plan

    if not paths and not lists:
        raise click.UsageError("nothing to index; give a PATH or --from FILE.")
    reporter = Reporter(quiet=quiet)
    changes = {
        "device": device,
        "batch_size": batch_size,
        "allow_urls": allow_urls or None,
        "allow_truncated": allow_truncated,
        "max_pixels": max_pixels,
        "deterministic": deterministic,
    }
    with ExitStack() as stack:
        stack.enter_context(like_ctrl_c())
        pipeline = stack.enter_context(embedding_pipeline(preset, changes, settings, languages=languages))
        stack.enter_context(reporter.passing_on_warnings())
        sources = Sources(lists, told=reporter.inform)
        named = [*paths, *sources.listed()]
        images, roots, refusal = _found(named, pipeline, follow_symlinks=follow_symlinks)
        refusal = None if sources.tagged() else refusal
        create = refusal is None or store is None  # a table is made when it is opened, a file when filled
        try:
            opened = open_index(ctx, index_file, store, table, create=create)
        except SearchIndexError as error:
            if refusal is None or create:
                raise
            raise refusal from error
        stack.enter_context(opened)
        doubtful = [root for root in roots if refusal is not None or not os.path.exists(root)]  # noqa: PTH110 - names of any length
        unknown = _unknown(opened, doubtful) if doubtful else []
        if refusal is not None and len(unknown) == len(set(roots)):
            raise refusal
        plan = make_plan(opened, [*sources.tagged(), *images], roots, retry_errors=retry_errors)
        carry_out(opened, plan, prune=prune)
        lost = [root for root in unknown if not os.path.exists(root)]  # noqa: PTH110
        for root in lost:
            reporter.complain(str(ImageReadError(str(root), "no such file")))
        with _settings_kept(
            opened, pipeline, reporter, unchanged=plan.unchanged, taken_over=bool(sources.tagged())
        ):
            added, failed = _fill(opened, plan, pipeline, sources, reporter)
        failed += len(lost)
        reporter.inform(_summary(plan, added, failed, len(opened), prune=prune))
    ctx.exit(SOME_FAILED if failed else 0)


@contextmanager
def _settings_kept(
    index: Index | StoreIndex, pipeline: Pipeline, reporter: Reporter, *, unchanged: int, taken_over: bool
) -> Iterator[None]:
    """Keep the settings that an index is begun with, and say when unchanged photographs do not get others."""
    from autotag.albums.settings import settings_of

    settings, unseen = settings_of(pipeline)
    is_new = not len(index)
    begun_with = index.about().get(_SETTINGS, settings)
    try:
        yield
    finally:
        if is_new and not unseen and not taken_over and len(index):
            index.remember({_SETTINGS: settings})
    if unchanged and not unseen and begun_with != settings:
        reporter.inform(
            "the index was begun with other settings (--preset, --language, --set); unchanged photographs "
            "keep what was found in them. To tag them again, make another index (--index FILE, --table NAME)."
        )


def _fill(
    index: Index | StoreIndex, plan: Plan, pipeline: Pipeline, sources: Sources, reporter: Reporter
) -> tuple[int, int]:
    """Take over what earlier runs found, tag the rest, and return the counts of successes and failures."""
    from autotag.search.updating import embedding_only, tag_due, take_over

    name = pipeline.encoder if isinstance(pipeline.encoder, str) else None
    done = _telling(reporter.complain, reporter.advance)
    earlier = set(sources.tagged()).intersection(plan.due)
    rest = replace(plan, due=[image for image in plan.due if image not in earlier])
    counts = []
    if earlier:
        with embedding_only(pipeline) as embedding:
            with reporter.loading():
                embedding.load()
            with reporter.counting(None):
                reporter.expect(len(earlier))
                found = sources.results(earlier)
                counts.append(take_over(index, found, embedding, encoder_name=name, done=done))
    if rest.due:
        with reporter.loading():
            pipeline.load()
        with reporter.counting(None):
            reporter.expect(len(rest.due))
            counts.append(tag_due(index, rest, pipeline, encoder_name=name, done=done))
    return sum(added for added, _ in counts), sum(failed for _, failed in counts)


def embeds(preset: str) -> bool:
    """Return whether the pipeline of a preset leaves the images' vectors in its results by itself."""
    from autotag.pipeline import presets

    return any(stage.get("stage") == EMBED_STAGE for stage in presets.read_preset(preset)["stages"])


def embedding_pipeline(
    preset: str,
    changes: Mapping[str, object],
    settings: Sequence[str],
    *,
    moderate: bool = False,
    languages: Sequence[str] = (),
) -> Pipeline:
    """Return the pipeline of a preset that also leaves the images' vectors in its results."""
    from autotag.cli.pipelines import with_moderation
    from autotag.pipeline import presets

    table = {
        **presets.read_preset(preset),
        **{name: value for name, value in changes.items() if value is not None},
    }
    if moderate:
        table = with_moderation(table)
    overrides = presets.parse_overrides(settings)
    if languages:
        table = presets.with_language(table, languages, overrides)
    stages: list[Any] = list(table["stages"])
    if not embeds(preset):
        stages.append({"stage": EMBED_STAGE})
    return presets.from_config(presets.overridden({**table, "stages": stages}, overrides))


def _found(
    paths: Sequence[str], pipeline: Pipeline, *, follow_symlinks: bool
) -> tuple[list[str], list[Path], ConfigError | ImageReadError | None]:
    """Return the images behind the paths, the paths that are not files, and why there is no image."""
    from autotag.cli.inputs import find, given
    from autotag.errors import ConfigError, ImageReadError
    from autotag.files.bounded_files import is_file
    from autotag.images.reading import is_url

    named = list(given(paths))
    if not named:
        return [], [], None
    roots = [Path(path) for path in named if not is_url(path) and not is_file(Path(path))]
    try:
        images = find(named, allow_urls=pipeline.allow_urls, follow_symlinks=follow_symlinks)
    except (ConfigError, ImageReadError) as error:
        return [], roots, error
    missing = {os.fspath(root) for root in roots if not os.path.exists(root)}  # noqa: PTH110
    return [path for image in images if (path := os.fspath(image)) not in missing], roots, None


def _unknown(index: Index | StoreIndex, roots: Sequence[Path]) -> list[Path]:
    """Return the paths at and below which the index knows no photograph."""
    from autotag.search.incoming import stored_path

    separator = os.fsencode(os.sep)
    unknown = {stored_path(root).rstrip(separator): root for root in roots}
    for known in index.known(list(map(str, roots)), roots):
        path = known
        while path:
            unknown.pop(path, None)
            path = path.rpartition(separator)[0]
    return list(unknown.values())


def _telling(complain: Callable[[str], None], advance: Callable[[], None]) -> Callable[[Any], None]:
    def tell(result: Any) -> None:
        if result.error is not None:
            complain(result.error)
        advance()

    return tell


def _summary(plan: Plan, added: int, failed: int, total: int, *, prune: bool) -> str:
    parts = [f"{added} indexed"]
    numbers = {
        "failed": failed,
        "unchanged": plan.unchanged,
        "with new metadata": len(plan.touched),
        "moved": len(plan.moved),
        "forgotten": len(plan.gone) + (len(plan.offline) if prune else 0),
        "offline": 0 if prune else len(plan.offline),
    }
    parts += [f"{number} {what}" for what, number in numbers.items() if number]
    return f"{', '.join(parts)}; {total} in the index"
