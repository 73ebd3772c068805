"""A plan of what an album's last run wrote, for a review afterwards."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotag.albums.plan_writer import plan_row
from autotag.albums.sources import album_root
from autotag.albums.state.identity import LEDGER, check_state, claim_state
from autotag.albums.state.ledger import Ledger, locked, state_folder
from autotag.errors import AutotagError, ConfigError
from autotag.files.file_states import lies_in
from autotag.files.replacing import appearing
from autotag.metadata import read_existing, read_packet, sidecars_of
from autotag.metadata.keywords import fold
from autotag.records.sample import BY_PERSON
from autotag.review.session import Review

if TYPE_CHECKING:
    from os import PathLike

    from autotag.metadata import MachineTag
    from autotag.records import Result

PLAN, DECISIONS = "review.jsonl", "decisions.jsonl"
"""The files of an album's review, in its state."""
_XMP = "xmp"


@dataclass(frozen=True, slots=True)
class Opened:
    """A review, and what the user should know about it.

    Attributes:
        review: of the plan or album.
        notes: whole sentences.
    """

    review: Review
    notes: tuple[str, ...] = ()


def open_review(
    source: str | PathLike[str], *, state: str | PathLike[str] | None = None, adopt: bool = False
) -> Opened:
    """Open the review of a plan, or of the tags that runs wrote in an album.

    The decisions about a plan are kept beside it, as ``<plan>.decisions``; those about an album in its state.

    Args:
        source: a plan, or an album's folder.
        state: the ``--state`` folder of the album's runs.
        adopt: use a state of another folder, or one that another machine or user wrote.

    Raises:
        ConfigError: it is neither, cannot be read, or another run or review is at work there.
        OSError: the plan or state cannot be read or written.
    """
    path = Path(source)
    if path.is_file():
        return Opened(Review(path, decisions_of(path)))
    if not path.is_dir():
        raise ConfigError(f"{str(path)!r} is neither a plan nor the folder of an album.")
    root, key = album_root([path])
    folder = state_folder(key, Path(state) if state else None)
    if not (folder / LEDGER).exists():
        raise ConfigError(
            f"no run of autotag is known in {str(path)!r}; tag it first: autotag album {path} (or name the "
            "--state folder of the run)."
        )
    check_state(folder, key, adopt=adopt)
    with ExitStack() as stack:
        stack.enter_context(locked(root, folder))
        claim_state(folder, key)
        ledger = stack.enter_context(closing(Ledger(folder / LEDGER, album=root)))
        notes = _write_plan(folder / PLAN, root, ledger)
    return Opened(Review(folder / PLAN, folder / DECISIONS, is_of_album=True), notes)


def decisions_of(plan: Path) -> Path:
    """Return the file that keeps the decisions about a plan."""
    return plan.with_name(f"{plan.name}.decisions")


def _write_plan(path: Path, root: Path, ledger: Ledger) -> tuple[str, ...]:
    """Write what the largest group of photographs, of one run's settings and writers, has now."""
    groups = ledger.groups()
    if not groups:
        raise ConfigError(f"the runs in {str(root)!r} found no tags yet; there is nothing to review.")
    settings, written, _ = max(groups, key=lambda group: (bool(group[1]), group[2]))
    options: dict[str, Any] = dict(ledger.writers(written).get(_XMP, {}))
    embedded = False
    with appearing(path) as file:
        rows = []
        for name, entry, result in ledger.group(settings, written):
            if lies_in((root / name).parent, root) and (root / name).is_file():
                tags, is_embedded = _of_ledger(result), False
                if written:
                    tags, is_embedded = _of_record(root / name, tags, look_inside=options.get("embed", True))
                embedded |= is_embedded
                row = plan_row(name, entry, result, tags=tags, rename_to=None, writers=[_XMP])
                if not options:  # what people gave is not in XMP yet
                    row["was"] = [tag["text"] for tag in tags if not tag.get("by_person")]
                rows.append(row)
        heading = {
            "autotag_plan": 1,
            "album": str(root.resolve()),
            "writers": {_XMP: options or {"embed": embedded}},
            "outputs": {},
            "settings": settings,
            "wanted": written,
            "rules": ledger.rules(written),
        }
        for row in (heading, *rows):
            file.write(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\n")
    others = sum(count for *_, count in groups) - sum(
        count for one, two, count in groups if (one, two) == (settings, written)
    )
    if not others:
        return ()
    are = "photograph was" if others == 1 else "photographs were"
    return (
        f"{others} {are} tagged or written otherwise and left out; finish the run: autotag album {root}.",
    )


def _of_ledger(result: Result) -> list[dict[str, Any]]:
    return [
        {"text": tag.text, "score": round(tag.score, 4)}
        | ({"by_person": True} if tag.source == BY_PERSON else {})
        for tag in result.tags
    ]


def _of_record(
    path: Path, known: list[dict[str, Any]], *, look_inside: bool
) -> tuple[list[dict[str, Any]], bool]:
    """Return the tags that a photograph has from the machine, and whether they are in the file itself.

    They are those of the record in its XMP, in a sidecar or else in the file; without one, those known that
    no person removed.
    """
    record: tuple[MachineTag, ...] = ()
    refused: set[str] = set()
    is_embedded = False
    with suppress(AutotagError, OSError, ValueError):  # applying says what is wrong with a file
        for _, content in sidecars_of(path).existing:
            packet = read_packet(content)
            record = record or packet.machine_tags
            refused |= set(map(fold, packet.refused))
        if look_inside and not record:
            existing = read_existing(path.read_bytes())
            record = existing.machine_tags
            refused |= set(map(fold, existing.refusals.tags))
            is_embedded = bool(record)
    left = [tag for tag in known if fold(tag["text"]) not in refused]
    return [_tag(tag) for tag in record] or left, is_embedded


def _tag(tag: MachineTag) -> dict[str, Any]:
    fits = len(tag.path) > 1 and tag.path[-1] == tag.text and not any("|" in part for part in tag.path)
    return {"text": tag.text, "score": tag.score} | ({"path": "|".join(tag.path)} if fits else {})
