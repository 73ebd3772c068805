"""Learn an album's keywords before the album is tagged: ``autotag album --learn``."""

from __future__ import annotations

import tempfile
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autotag.cli.learn import complain_of_refused, lesson_of
from autotag.errors import ConfigError, ImageReadError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import ExitStack

    from autotag.albums.sources import Album
    from autotag.cli.progress import Reporter
    from autotag.learning.photographs import KeywordedPhoto
    from autotag.pipeline.pipeline import Pipeline
    from autotag.protocols import ImageTextEncoder
    from autotag.relevance.learned_keywords import LearnedKeywords

STAGE = "suggest_keywords"
FILE = "learned.tags"
"""The file of the album's keywords, in its state."""
_WITHOUT = "the album is tagged without learned keywords."


@dataclass(frozen=True, slots=True)
class AlbumLesson:
    """Learn the keywords that people gave in an album, with the encoder of the pipeline that will tag it.

    Attributes:
        sources: as for ``tag_folder``; so are the next five.
        include: glob patterns.
        exclude: glob patterns.
        follow_symlinks: whether to enter folders behind links.
        state: the ``--state`` folder.
        adopt: use a state of another folder, machine or user.
        index_file: an index, whose vectors are used again if it exists; or None.
        reporter: writes to stderr.
        settings: ``--set``: only those of ``suggest_keywords`` matter.
        dry_run: keep the file out of the album's state, where nothing may be written.
    """

    sources: Sequence[str]
    include: Sequence[str]
    exclude: Sequence[str]
    follow_symlinks: bool
    state: Path | None
    adopt: bool
    index_file: Path | None
    reporter: Reporter
    _: KW_ONLY
    settings: Sequence[str] = ()
    dry_run: bool

    def taught_to(self, pipeline: Pipeline, stack: ExitStack) -> Pipeline:
        """Return a pipeline that suggests the learned keywords, too; as it was, if nothing can be learned.

        Args:
            pipeline: not loaded yet.
            stack: removes the file of a dry run when it is closed.

        Raises:
            ConfigError: the pipeline suggests keywords already, the album is an archive, or its state is of
                another one.
        """
        from autotag.albums.sources import find_album
        from autotag.pipeline.presets import parse_overrides
        from autotag.pipeline.stage_tables import changed_stage
        from autotag.stages.suggest_keywords import SuggestKeywords

        changes = parse_overrides(self.settings).get(STAGE, {})
        if changes is False or "keywords" in changes:
            raise ConfigError(
                f"--learn adds the stage {STAGE} with a file of its own; leave one of them out."
            )
        if STAGE in pipeline:
            raise ConfigError(f"the preset has a stage {STAGE} already; leave out --learn, or the stage.")
        album = find_album(
            self.sources,
            include=self.include,
            exclude=self.exclude,
            follow_symlinks=self.follow_symlinks,
        )
        if album.is_archive:
            raise ConfigError("--learn reads the keywords of files and sidecars; unpack the archive first.")
        learned = self._learned(album, pipeline)
        if learned is None:
            return pipeline
        file = self._kept(learned, album, stack)
        self.reporter.inform(
            f"{len(learned.keywords)} keywords learned from {learned.photographs} photographs"
        )
        stage = changed_stage(SuggestKeywords(file), changes)
        return replace(pipeline, stages=[*pipeline.stages, stage])

    def _learned(self, album: Album, pipeline: Pipeline) -> LearnedKeywords | None:
        """Return what the album teaches; None, with the reason on stderr, if that is nothing."""
        from autotag.learning.photographs import in_files, left_in
        from autotag.learning.written import with_runs, written_by_runs
        from autotag.models.pool import ModelPool

        paths = [photo.path for photo in album.photos() if photo.path is not None]
        written = written_by_runs(album.root, state=self.state, adopt=self.adopt)
        everything = list(with_runs(in_files(paths), written))
        left, found = left_in(everything), [photo for photo in everything if photo.teaches]
        if not found:
            self.reporter.complain(f"no photograph has a keyword that a person gave; {_WITHOUT}")
            return None
        pool = ModelPool(encoder=pipeline.encoder, device=pipeline.device, dtype=pipeline.dtype)
        try:
            encoder = pool.encoder()
            known = self._with_known_vectors(found, encoder)
            lesson = lesson_of(known, encoder, self.reporter, left=left)
        except ImageReadError as error:
            self.reporter.complain(f"{error}; {_WITHOUT}")
            return None
        finally:
            pool.close()
        if lesson.learned.is_empty:
            complain_of_refused(lesson, self.reporter)
            self.reporter.complain(f"no keyword of the album can be learned; {_WITHOUT}")
            return None
        name = pipeline.encoder if isinstance(pipeline.encoder, str) else ""
        return replace(lesson.learned, encoder_name=name)

    def _with_known_vectors(
        self, found: Sequence[KeywordedPhoto], encoder: ImageTextEncoder
    ) -> Sequence[KeywordedPhoto]:
        """Return the photographs with their vectors of the index, where there is one."""
        from autotag.learning.photographs import check_index, with_vectors_of
        from autotag.search import Index

        if self.index_file is None or not self.index_file.exists():
            return found
        with Index.open(self.index_file, create=False) as index:
            check_index(index, encoder)
            return with_vectors_of(found, index)

    def _kept(self, learned: LearnedKeywords, album: Album, stack: ExitStack) -> Path:
        """Return the file of the keywords; one that suggests the same is kept, so that nothing is redone."""
        from autotag.albums.state.identity import check_state, claim_state
        from autotag.albums.state.ledger import locked, state_folder

        folder = state_folder(album.key, self.state)
        check_state(folder, album.key, adopt=self.adopt)
        file = folder / FILE
        if _suggests(file, learned):
            return file
        if self.dry_run:
            file = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="autotag-"))) / FILE
            learned.save(file)
            return file
        try:
            with locked(album.root, folder):
                claim_state(folder, album.key)
                learned.save(file)
        except OSError as error:
            raise ConfigError(f"cannot write {str(file)!r}: {error.strerror or error}.") from error
        return file


def is_of_lesson(setting: str) -> bool:
    """Return whether a ``--set`` is about the stage that ``--learn`` adds."""
    target = setting.partition("=")[0].strip()
    return target == STAGE or target.rpartition(".")[0] == STAGE


def _suggests(file: Path, learned: LearnedKeywords) -> bool:
    """Return whether a file is there that suggests the same; one that is damaged does not."""
    from autotag.relevance.learned_keywords import LearnedKeywords

    if file.is_symlink() or not file.is_file():
        return False
    try:
        return LearnedKeywords.load(file).is_like(learned)
    except ConfigError:
        return False
