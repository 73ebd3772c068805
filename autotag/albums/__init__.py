"""Tag whole albums without losing data: run, undo, plan, apply.

``tag_folder`` finds photographs, streams them through a pipeline and passes the results to writers. Every
change is recorded in a journal before it is made, so that ``undo_album`` can revert it, even after a crash.
``apply_plan`` applies a plan that a person reviewed.
"""

from autotag.albums.album_writers import WriterChoice
from autotag.albums.applying import apply_plan
from autotag.albums.reports import AlbumSummary, PhotoReport
from autotag.albums.run import tag_folder
from autotag.albums.undoing import UndoSummary, undo_album

__all__ = [
    "AlbumSummary",
    "PhotoReport",
    "UndoSummary",
    "WriterChoice",
    "apply_plan",
    "tag_folder",
    "undo_album",
]
