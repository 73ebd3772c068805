"""What the README of the bundled vocabularies promises of every entry."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.resources import files

import pytest
from open_clip.tokenizer import SimpleTokenizer

from autotag.vocabulary import BUNDLED, Vocabulary

FOLDER = files("autotag") / "data" / "vocabularies"
LISTS = sorted(entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".txt"))
LEAST = {
    "mediums": 150, "artists": 500, "movements": 200, "trendings": 72, "flavors": 3000, "negatives": 150,
}  # fmt: skip
UNWANTED = re.compile(
    r"\b(nude|naked|nsfw|sex|sexual|sexy|erotic\w*|porn\w*|gore|gory|slave|savages?|gyps(y|ies)|eskimo|negro|rape\w*|"
    r"torture\w*|murder\w*|suicide|nazi\w*|loli|retard\w*|freak|hooker)\b",
    re.IGNORECASE,
)


def labels() -> list[tuple[str, str]]:
    return [(name, label) for name in BUNDLED for label in Vocabulary.bundled(name)]


def repeated(key) -> list[list[tuple[str, str]]]:
    """The groups of labels that have a key in common."""
    groups = defaultdict(list)
    for name, label in labels():
        groups[key(label)].append((name, label))
    return [group for group in groups.values() if len(group) > 1]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_list_is_as_long_as_users_expect(name):
    assert len(Vocabulary.bundled(name)) >= LEAST[name]


def test_no_two_labels_are_the_same_but_for_case_spaces_and_punctuation():
    assert repeated(lambda label: re.sub(r"[\W_]+", "", label.casefold())) == []


def test_no_two_labels_are_the_same_tokens_to_clip_and_none_is_long():
    tokenizer = SimpleTokenizer()
    assert repeated(lambda label: tuple(tokenizer.encode(label))) == []
    assert max(len(tokenizer.encode(label)) for _, label in labels()) <= 20


def test_every_label_is_a_phrase_that_commas_can_join():
    wrong = [label for _, label in labels() if "," in label or label != " ".join(label.split())]
    assert wrong == []


def test_no_label_is_a_slur_or_sexual_or_violent():
    assert [label for _, label in labels() if UNWANTED.search(label)] == ["by Augusta Savage"]


def test_no_full_name_of_an_artist_is_in_another_list():
    names = [label.removeprefix("by ") for label in Vocabulary.bundled("artists")]
    full = [name.casefold() for name in names if " " in name]
    others = "\n".join(label for name, label in labels() if name != "artists").casefold()
    assert [name for name in full if name in others] == []


def test_no_artist_stands_with_the_living_and_with_the_dead():
    everyone = Vocabulary.bundled("artists")
    assert everyone.repeated == 0
    assert Vocabulary.bundled("artists", living_artists=False).repeated == 0


@pytest.mark.parametrize("file", LISTS)
def test_a_list_is_plain_text_in_sections(file):
    lines = (FOLDER / file).read_text(encoding="utf-8").split("\n")
    assert lines[0].startswith("# ")
    assert lines[-1] == ""
    assert all(line == line.strip() for line in lines)
    assert sum(line.startswith("# ") for line in lines) >= 5


def test_the_readme_describes_every_list():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z_]+\.txt)` \|", readme, re.MULTILINE) != []
    assert sorted(re.findall(r"^\| `([a-z_]+\.txt)` \|", readme, re.MULTILINE)) == LISTS
    assert "Apache-2.0" in readme
