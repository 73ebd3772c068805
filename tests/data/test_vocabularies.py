"""What the README of the bundled vocabularies promises of every entry."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from importlib.resources import files

import pytest
from open_clip.tokenizer import SimpleTokenizer

from autotag.training.mini_names import CLASS_LABELS
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary

FOLDER = files("autotag") / "data" / "vocabularies"
LISTS = sorted(entry.name for entry in FOLDER.iterdir() if entry.name.endswith(".txt"))
LEAST = {
    "mediums": 150, "artists": 500, "movements": 200, "trendings": 72, "flavors": 3000, "negatives": 150,
    "things": 2000,
}  # fmt: skip
UNWANTED = re.compile(
    r"\b(nude|naked|nsfw|sex|sexual|sexy|erotic\w*|porn\w*|gore|gory|slave|savages?|gyps(y|ies)|eskimo|negro|rape(?!seed)\w*|"
    r"torture\w*|murder\w*|suicide|nazi\w*|loli|retard\w*|freak|hooker)\b",
    re.IGNORECASE,
)
PHRASES = [name for name in BUNDLED if name != "things"]
THINGS = Vocabulary.bundled("things")
NAMES = {name for label in THINGS for name in THINGS.names(label)}
TOP_TERMS = {
    "activity", "animal", "art", "body", "building", "clothing", "color", "drink", "event", "expression",
    "fantasy", "food", "material", "music", "nature", "object", "pattern", "person", "photography style",
    "place", "plant", "shape", "time of day", "vehicle", "weather",
}  # fmt: skip
COCO = {
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple",
    "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch",
    "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "scissors", "teddy bear", "hair drier", "toothbrush",
}  # fmt: skip
SCENES = {"buildings", "forest", "glacier", "mountain", "sea", "street"}


def labels() -> list[tuple[str, str]]:
    return [(name, label) for name in BUNDLED for label in Vocabulary.bundled(name)]


def imagenet() -> dict[str, list[str]]:
    """Synset of each class -> its lemmas, as timm has them."""
    folder = files("timm") / "data" / "_info"
    lines = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    lemmas = dict(line.split("\t") for line in lines)
    classes = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    return {synset: lemmas[synset].split(", ") for synset in classes}


def repeated(key, names=PHRASES) -> list[list[tuple[str, str]]]:
    """The groups of labels that have a key in common."""
    groups = defaultdict(list)
    for name, label in ((name, label) for name, label in labels() if name in names):
        groups[key(label)].append((name, label))
    return [group for group in groups.values() if len(group) > 1]


@pytest.mark.parametrize("name", BUNDLED)
def test_a_list_is_as_long_as_users_expect(name):
    assert len(Vocabulary.bundled(name)) >= LEAST[name]


def test_no_two_labels_are_the_same_but_for_case_spaces_and_punctuation():
    def key(label):
        return re.sub(r"[\W_]+", "", label.casefold())

    assert repeated(key) == []
    assert repeated(key, names=["things"]) == []


@pytest.mark.slow
def test_no_two_labels_are_the_same_tokens_to_clip_and_none_is_long():
    tokenizer = SimpleTokenizer()
    assert repeated(lambda label: tuple(tokenizer.encode(label))) == []
    assert repeated(lambda label: tuple(tokenizer.encode(label)), names=["things"]) == []
    assert max(len(tokenizer.encode(label)) for _, label in labels()) <= 20


def test_every_label_is_a_phrase_that_commas_can_join():
    wrong = [label for _, label in labels() if "," in label or label != " ".join(label.split())]
    assert wrong == []


def test_no_label_is_a_slur_or_sexual_or_violent():
    assert [label for _, label in labels() if UNWANTED.search(label)] == ["by Augusta Savage"]
    assert [name for name in NAMES if UNWANTED.search(name)] == []


def test_no_full_name_of_an_artist_is_in_another_list():
    names = [label.removeprefix("by ") for label in Vocabulary.bundled("artists")]
    full = [name.casefold() for name in names if " " in name]
    others = "\n".join(label for name, label in labels() if name in PHRASES and name != "artists").casefold()
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


def test_no_name_of_things_is_the_name_of_two():
    counts = Counter(name for label in THINGS for name in THINGS.names(label))
    assert [name for name, count in counts.items() if count > 1] == []


def test_names_of_things_are_lower_case_words():
    assert [name for name in NAMES if not re.fullmatch(r"[a-zñ0-9]+([ '-]+[a-z0-9]+|')*", name)] == []


def test_things_have_few_top_terms_and_are_at_most_four_terms_deep():
    assert {THINGS.path(label)[0] for label in THINGS} == TOP_TERMS
    assert {len(THINGS.path(label)) for label in THINGS} == {1, 2, 3, 4}


def test_things_know_what_belongs_where():
    assert THINGS.path("tabby cat") == ("animal", "cat", "tabby cat")
    assert THINGS.path("golden retriever") == ("animal", "dog", "retriever", "golden retriever")
    assert THINGS.ancestors("corn") == ("vegetable", "crop", "food", "plant")
    assert THINGS.label_of("Couches") == "sofa"


def test_every_class_of_imagenet_is_among_the_things():
    lemmas = {synset: {lemma.casefold() for lemma in own} for synset, own in imagenet().items()}
    assert len(lemmas) == 1000
    assert [synset for synset in lemmas if synset not in CLASS_LABELS and not lemmas[synset] & NAMES] == []
    assert set(CLASS_LABELS.values()) <= set(THINGS.labels)
    assert set(CLASS_LABELS) <= set(lemmas)


def test_the_objects_of_coco_and_six_scenes_are_among_the_things():
    assert len(COCO) == 80
    assert COCO | SCENES <= NAMES


LANGUAGES = ("de", "fr", "es", "it", "pt", "nl")
TRANSLATED = ("things_by_hand.tsv", "things_from_cldr.tsv")


@pytest.mark.parametrize("language", LANGUAGES)
def test_things_are_named_in_six_languages_what_is_common_above_all(language):
    named = THINGS.translations[language]
    assert set(THINGS.translations) == set(LANGUAGES)
    assert len(named) >= 1_750
    objects = {THINGS.label_of(name) for name in COCO | SCENES} | TOP_TERMS
    broader = {term for terms in THINGS.broader.values() for term in terms}
    assert objects <= set(named)
    assert len(broader - set(named)) <= 10, broader - set(named)


@pytest.mark.parametrize("file", TRANSLATED)
def test_names_in_other_languages_are_clean_and_each_label_is_in_one_file(file):
    lines = [line for line in (FOLDER / file).read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert lines[0].split("\t") == ["label", *(f"label.{language}" for language in LANGUAGES)]
    rows = [line.split("\t") for line in lines[1:]]
    labels = [label for label, *_ in rows]
    assert len(set(labels)) == len(labels)
    assert set(labels) <= set(THINGS.labels)
    other = next(name for name in TRANSLATED if name != file)
    assert not set(labels) & {
        line.split("\t")[0] for line in (FOLDER / other).read_text("utf-8").splitlines()
    }
    for row in rows:
        for name in row[1:]:
            assert name == " ".join(name.split())
            assert not set(name) & set('|,;()/"0123456789’'), row
        assert any(map(str.isupper, row[1])) or row[1] in {"", "bunt", "golden", "silbern", "unter Wasser"}, (
            row
        )
