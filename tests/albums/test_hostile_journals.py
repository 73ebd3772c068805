"""A journal that a stranger wrote or damaged: undo names what is wrong and harms no file elsewhere."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from autotag.albums import WriterChoice, undo_album
from autotag.albums.state.journal import Journal, LostStep

WRITERS = (
    WriterChoice("xmp", options={"embed": True}),
    WriterChoice("txt", options={"naming": "full"}),
    "csv",
    "rename",
)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**70, 1.5, float("inf"), "", "x", "\0", "\ud800", "a" * 300, "../../away",
    "/etc/passwd", [], [None], [[1, 2]], {}, {"path": 7}, [["a"]], "metadata", "rename", [-1, 5], [0, 2**62],
)  # fmt: skip
PYTHONS_OWN = ("KeyError", "TypeError", "AttributeError", "IndexError")


def places(row: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a row something stands, at any depth."""
    inner = row.items() if isinstance(row, dict) else enumerate(row) if isinstance(row, list) else ()
    return [at] * bool(at) + [place for key, value in inner for place in places(value, (*at, key))]


def mutated(row: Any, chance: random.Random) -> Any:
    """A copy in which one thing is another, is gone, or is one too many."""
    copy = json.loads(json.dumps(row))
    *way, last = chance.choice(places(copy))
    around = copy
    for key in way:
        around = around[key]
    kind = chance.choice(["other", "other", "other", "gone", "more"])
    if kind == "gone":
        del around[last]
    elif kind == "more" and isinstance(around, dict):
        around[chance.choice(["shell", "path", "kind"])] = chance.choice(VALUES)
    else:
        around[last] = chance.choice(VALUES)
    return copy


@pytest.fixture
def told(photos: Path, tagged: Any, state: Path) -> tuple[Path, list[str]]:
    """The journal of a run with writers of every kind, and its lines."""
    tagged(photos, *WRITERS)
    [journal] = state.rglob("journal.jsonl")
    return journal, journal.read_text().splitlines()


def damaged(lines: list[str], chance: random.Random) -> str:
    """The journal with a few mutated lines."""
    rows = [json.loads(line) for line in lines]
    for number in chance.sample(range(len(rows)), 3):
        rows[number] = mutated(rows[number], chance)
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.slow
def test_every_step_of_a_damaged_journal_is_a_change_or_says_what_is_wrong(told, photos):
    path, lines = told
    chance, lost = random.Random(3), 0  # noqa: S311
    for _ in range(40):
        path.write_text(damaged(lines, chance))
        with Journal(path, album=photos) as journal:
            said = list(journal.problems)
            for _, step in [*journal.newest_first(), *journal.pending()]:
                if isinstance(step, LostStep):
                    said.append(step.reason)
        lost += len(said)
        assert not [reason for reason in said if not reason or any(word in reason for word in PYTHONS_OWN)]
    assert lost > 40


def test_undo_by_a_damaged_journal_ends_and_changes_nothing_elsewhere(told, photos, tree):
    path, lines = told
    chance = random.Random(4)  # noqa: S311
    (photos.parent / "away").write_text("of somebody else")
    pictures = {file.relative_to(photos): file.read_bytes() for file in photos.rglob("*") if file.is_file()}
    for _ in range(4):
        path.write_text(damaged(lines, chance))
        undo_album(photos)
        assert (photos.parent / "away").read_text() == "of somebody else"
        assert sum(name.endswith((".jpg", ".png", ".webp")) for name in tree(photos)) == 7
        for file in photos.rglob("*"):
            if file.is_file():
                file.unlink()
        for name, content in pictures.items():
            (photos / name).write_bytes(content)
