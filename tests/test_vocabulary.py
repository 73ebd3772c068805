from __future__ import annotations

import pickle

import pytest

from autotag.errors import ConfigError
from autotag.vocabulary import Vocabulary


def test_labels_keep_their_order_and_the_first_casing():
    vocabulary = Vocabulary(["Sofa", " Lamp ", "sofa", "Rug"])
    assert vocabulary.labels == ("Sofa", "Lamp", "Rug")
    assert len(vocabulary) == 3
    assert list(vocabulary) == ["Sofa", "Lamp", "Rug"]


def test_a_mapping_gives_labels_and_synonyms():
    vocabulary = Vocabulary({"sofa": ["couch", "settee"], "lamp": []})
    assert vocabulary.names("sofa") == ("sofa", "couch", "settee")
    assert vocabulary.names("lamp") == ("lamp",)


def test_synonyms_of_a_repeated_label_go_to_the_first():
    vocabulary = Vocabulary(["Sofa", "sofa"], synonyms={"SOFA": ["couch", "Couch", "sofa", "settee"]})
    assert vocabulary.names("Sofa") == ("Sofa", "couch", "settee")


def test_two_of_the_same_are_equal_hashable_and_survive_pickling():
    vocabulary = Vocabulary(["sofa"], synonyms={"sofa": ["couch"]}, name="rooms")
    again = pickle.loads(pickle.dumps(vocabulary))
    assert again == vocabulary
    assert hash(again) == hash(vocabulary)


def test_a_text_file_has_a_label_per_line_and_synonyms_after_bars(tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_bytes(
        "\ufeff# furniture\nsofa | couch|settee\n\n  lamp, standing  \r\nfauteuil à oreilles\n".encode()
    )
    vocabulary = Vocabulary.from_file(path)
    assert vocabulary.name == "rooms"
    assert vocabulary.labels == ("sofa", "lamp, standing", "fauteuil à oreilles")
    assert vocabulary.names("sofa") == ("sofa", "couch", "settee")


def test_a_csv_file_has_the_label_first_and_synonyms_after_it(tmp_path):
    path = tmp_path / "rooms.CSV"
    path.write_text('# furniture\nsofa,couch,"settee, long",\nlamp\n', encoding="utf-8")
    vocabulary = Vocabulary.from_file(str(path), name="mine")
    assert vocabulary.name == "mine"
    assert vocabulary.names("sofa") == ("sofa", "couch", "settee, long")
    assert vocabulary.names("lamp") == ("lamp",)


def test_a_file_may_repeat_a_label(tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_text("sofa|couch\nsofa|settee\nSofa|divan\n", encoding="utf-8")
    assert Vocabulary.from_file(path).names("sofa") == ("sofa", "couch", "settee", "divan")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no label"),
        (b"# only\n\n   \n", "holds no label"),
        (b"sofa\nlamp\n\xff\xfe\n", "line 3: not UTF-8"),
        (b"sofa\n| couch\n", "line 2: there are synonyms but no label"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_line(tmp_path, content, message):
    path = tmp_path / "rooms.txt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"rooms.txt.*{message}"):
        Vocabulary.from_file(path)


def test_a_csv_line_that_is_none_is_refused_with_its_number(tmp_path):
    path = tmp_path / "rooms.csv"
    path.write_text('sofa\n"lamp\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rooms\.csv, line 2: not CSV"):
        Vocabulary.from_file(path)


@pytest.mark.parametrize("name", ["nowhere.txt", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path, name):
    with pytest.raises(ConfigError, match="vocabulary file .* cannot be read"):
        Vocabulary.from_file(tmp_path / name)


@pytest.mark.parametrize(
    ("labels", "synonyms", "message"),
    [
        ([], {}, "has no label"),
        (["sofa", " "], {}, "is no label"),
        (["sofa", 3], {}, "3 is no label"),
        ("sofa", {}, "give a list"),
        (["sofa"], {"lamp": ["light"]}, "synonyms for 'lamp'"),
        (["sofa"], {"sofa": [""]}, "is no label"),
    ],
)
def test_bad_labels_are_refused(labels, synonyms, message):
    with pytest.raises(ConfigError, match=f"vocabulary 'rooms'.*{message}"):
        Vocabulary(labels, name="rooms", synonyms=synonyms)


def test_the_template_needs_its_slot():
    with pytest.raises(ConfigError, match="the template of vocabulary 'rooms'"):
        Vocabulary(["sofa"], name="rooms", template="a photo")
