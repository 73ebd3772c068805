from __future__ import annotations

import pickle
import re

import pytest

from autotag.errors import ConfigError, UnknownNameError
from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary


@pytest.fixture
def peer(tmp_path, monkeypatch):
    """A package that is laid out as clip-interrogator is, with flavors of three kinds."""
    data = tmp_path / "site" / "clip_interrogator" / "data"
    data.mkdir(parents=True)
    (data.parent / "__init__.py").write_text("raise ImportError('nothing of it is imported')\n")
    (data / "flavors.txt").write_bytes(b"sharp focus\n\n8 k\nlost \xff\nSharp focus")
    monkeypatch.syspath_prepend(tmp_path / "site")


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
        (b"", "has no labels"),
        (b"# only\n\n   \n", "has no labels"),
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
        ([], {}, "has no labels"),
        (["sofa", " "], {}, "is not a label"),
        (["sofa", 3], {}, "3 is not a label"),
        ("sofa", {}, "give a list"),
        (["sofa"], {"lamp": ["light"]}, "synonyms are given for 'lamp'"),
        (["sofa"], {"sofa": [""]}, "is not a label"),
    ],
)
def test_bad_labels_are_refused(labels, synonyms, message):
    with pytest.raises(ConfigError, match=f"vocabulary 'rooms'.*{message}"):
        Vocabulary(labels, name="rooms", synonyms=synonyms)


def test_the_template_needs_its_slot():
    with pytest.raises(ConfigError, match="the template of vocabulary 'rooms'"):
        Vocabulary(["sofa"], name="rooms", template="a photo")


def test_it_tells_how_many_repeated_labels_it_left_out(tmp_path):
    assert Vocabulary(["Sofa", "lamp", "sofa", "SOFA "]).repeated == 2
    assert Vocabulary({"sofa": [], "Sofa": ["couch"]}).repeated == 1
    path = tmp_path / "rooms.txt"
    path.write_text("sofa\n\nlamp\nsofa\nSofa|couch\n", encoding="utf-8")
    vocabulary = Vocabulary.from_file(path)
    assert vocabulary.labels == ("sofa", "lamp")
    assert vocabulary.repeated == 2


def test_what_was_left_out_does_not_make_two_vocabularies_differ():
    assert Vocabulary(["sofa", "Sofa"]) == Vocabulary(["sofa"])


@pytest.mark.parametrize(
    "label",
    [
        "a <|endoftext|> b",
        "<end_of_text>",
        "x <END_OF_TEXT> y",
        "&lt;end_of_text&gt;",
        "&amp;lt;end_of_text&amp;gt;",
        "＜｜endoftext｜＞",
        "sofa</s>",
        "<eos>",
    ],
)
def test_a_label_that_would_end_the_text_early_is_refused_with_the_mark(label, tmp_path):
    with pytest.raises(
        ConfigError, match=r"vocabulary 'rooms': .* contains '<.*>', where text encoders stop"
    ):
        Vocabulary(["lamp", label], name="rooms")
    with pytest.raises(ConfigError, match="contains '<"):
        Vocabulary({"lamp": [label]})
    path = tmp_path / "rooms.txt"
    path.write_text("lamp\n" + label.replace("|", "") + "\nlamp | </s>\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rooms\.txt, line [23]: .* contains '<"):
        Vocabulary.from_file(path)


def test_one_label_a_long_one_emoji_and_mojibake_stay_as_they_are(tmp_path):
    labels = ["a" * 500, "fire 🔥", "🔥", "dÃ©coupage", "日本画", "end of text"]
    path = tmp_path / "odd.txt"
    path.write_text("\n\n".join(labels), encoding="utf-8")
    assert Vocabulary.from_file(path).labels == tuple(labels)
    assert Vocabulary(["only"]).labels == ("only",)


def test_a_column_of_a_table_holds_the_labels(tmp_path):
    path = tmp_path / "rooms.csv"
    path.write_bytes('\ufeffid, label\r\n1,"sofa, long"\r\n2,\r\n3,#lamp\r\n4,"sofa, long"\r\n5\r\n'.encode())
    vocabulary = Vocabulary.from_file(path, column="label")
    assert vocabulary.labels == ("sofa, long", "#lamp")
    assert vocabulary.repeated == 1
    assert not vocabulary.synonyms


def test_a_column_that_is_not_there_is_refused_with_the_near_miss(tmp_path):
    path = tmp_path / "rooms.csv"
    path.write_text("id,label\n1,sofa\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rooms\.csv has no column 'labels'. Did you mean 'label'\?"):
        Vocabulary.from_file(path, column="labels")


def test_a_column_of_a_text_file_is_refused(tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_text("sofa\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"rooms\.txt is not a table .* no 'label'"):
        Vocabulary.from_file(path, column="label")


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_list_has_its_name_and_phrases_are_compared_as_they_are(name):
    vocabulary = Vocabulary.bundled(name)
    assert vocabulary.name == name
    assert vocabulary.template == ("a photo of {}" if name == "things" else "{}")
    assert vocabulary.repeated == 0


def test_broader_terms_come_from_a_mapping_and_are_spelt_as_the_labels():
    labels = ["Tabby", "Cat", "animal", "pet"]
    vocabulary = Vocabulary(labels, broader={"tabby": ["cat"], "CAT": ["Animal", "pet", "animal"]})
    assert vocabulary.broader == {"Tabby": ("Cat",), "Cat": ("animal", "pet")}
    assert vocabulary.ancestors("Tabby") == ("Cat", "animal", "pet")
    assert vocabulary.ancestors("pet") == ()
    assert vocabulary.path("Tabby") == ("animal", "Cat", "Tabby")
    assert vocabulary.path("pet") == ("pet",)
    assert vocabulary != Vocabulary(labels)


def test_a_label_under_two_terms_of_one_kind_has_each_ancestor_once():
    broader = {"corn": ["vegetable", "crop"], "vegetable": ["plant"], "crop": ["plant"]}
    vocabulary = Vocabulary(["corn", "vegetable", "crop", "plant"], broader=broader)
    assert vocabulary.ancestors("corn") == ("vegetable", "crop", "plant")


def test_a_text_file_has_broader_terms_after_an_angle(tmp_path):
    path = tmp_path / "animals.txt"
    path.write_text(
        "tabby cat | tabby < cat\ncat < animal | pet\ncat<dog\nanimal\npet\nTabby Cat < pet\n",
        encoding="utf-8",
    )
    vocabulary = Vocabulary.from_file(path)
    assert vocabulary.labels == ("tabby cat", "cat", "cat<dog", "animal", "pet")
    assert vocabulary.broader == {"tabby cat": ("cat", "pet"), "cat": ("animal", "pet")}
    assert vocabulary.names("tabby cat") == ("tabby cat", "tabby")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("cat < anmal", "the broader term of 'cat' is 'anmal', which is not a label. Did you mean 'animal'"),
        ("cat < xyz", "is 'xyz', which is not a label. Write it on a line of its own"),
        ("cat < cat", "form a circle: cat < cat"),
        ("cat < animal <", "write broader terms once"),
        ("cat <", "write broader terms once"),
        ("cat < animal | ", "write broader terms once"),
        (" < animal", "there are broader terms but no label"),
    ],
)
def test_bad_broader_terms_of_a_file_are_refused_with_its_name_and_line(tmp_path, line, message):
    path = tmp_path / "animals.txt"
    path.write_text(f"animal\ncat\n{line}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=rf"animals\.txt, line 3: .*{message}"):
        Vocabulary.from_file(path)


def test_a_circle_of_broader_terms_is_refused_with_all_its_labels(tmp_path):
    path = tmp_path / "animals.txt"
    path.write_text("tabby < cat\ncat < pet\npet < Cat\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"animals\.txt, line 2: .* circle: cat < pet < cat; remove one"):
        Vocabulary.from_file(path)


def test_broader_terms_of_an_unknown_label_are_refused():
    with pytest.raises(
        ConfigError, match="vocabulary 'pets': broader terms are given for 'dog', which is not"
    ):
        Vocabulary(["cat"], name="pets", broader={"dog": ["cat"]})


def test_a_table_refuses_broader_terms_and_says_where_they_go(tmp_path):
    path = tmp_path / "animals.csv"
    path.write_text("animal\ncat,kitty,< animal\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"animals\.csv, line 2: tables cannot have broader terms.*text file"
    ):
        Vocabulary.from_file(path)


def test_a_label_is_found_by_its_names_in_any_case_and_number():
    vocabulary = Vocabulary(
        {"Sofa": ["couch"], "woods": ["forest"], "wood": [], "crane": ["hoist"], "lift": ["hoist"]}
    )
    found = {
        text: vocabulary.label_of(text) for text in ("sofas", " Couches", "Woods", "wood", "hoist", "tap")
    }
    assert found == {
        "sofas": "Sofa", " Couches": "Sofa", "Woods": "woods", "wood": "wood", "hoist": None, "tap": None,
    }  # fmt: skip


def test_living_artists_can_be_left_out():
    everyone = Vocabulary.bundled("artists")
    dead = Vocabulary.bundled("artists", living_artists=False)
    assert {"by Claude Monet", "by David Hockney"} <= set(everyone)
    assert "by David Hockney" not in set(dead)
    assert everyone.labels[: len(dead)] == dead.labels
    assert Vocabulary.bundled("flavors", living_artists=False) == Vocabulary.bundled("flavors")


def test_an_unknown_bundled_list_is_refused_with_the_near_miss():
    with pytest.raises(UnknownNameError, match="'moviments'. Did you mean 'movements'"):
        Vocabulary.bundled("moviments")


def test_the_lists_of_clip_interrogator_come_without_blanks_repetitions_and_lost_characters(peer):
    vocabulary = Vocabulary.from_clip_interrogator("flavors")
    assert vocabulary.labels == ("sharp focus", "8 k")
    assert vocabulary.name == "flavors"
    assert vocabulary.template == "{}"
    assert vocabulary.repeated == 1


def test_labels_in_other_languages_are_read_from_text_and_from_tables(tmp_path):
    lines = (
        "animal | label.de: Tier\ntabby cat | tabby | label.de: Tigerkatze | LABEL.FR : chat tigré < animal\n"
    )
    text = tmp_path / "pets.txt"
    text.write_text(lines, encoding="utf-8")
    plain = tmp_path / "pets.csv"
    plain.write_text('tabby cat,tabby,label.de:Tigerkatze,"label.fr: chat tigré"\n', encoding="utf-8")
    headed = tmp_path / "pets.tsv"
    headed.write_text(
        "label\tsynonyms\tlabel.de\tlabel.fr\ntabby cat\ttabby | tiger cat\tTigerkatze\tchat tigré\nowl\n",
        encoding="utf-8",
    )
    for file in (text, plain, headed):
        found = Vocabulary.from_file(file)
        assert found.label_in("de", "tabby cat") == "Tigerkatze"
        assert found.label_in("fr", "tabby cat") == "chat tigré"
        assert found.label_in("it", "tabby cat") is None
        assert "tabby" in found.synonyms["tabby cat"]
        assert found.label_of("Tigerkatze") is None
    assert Vocabulary.from_file(text).ancestors("tabby cat") == ("animal",)
    assert Vocabulary.from_file(headed).labels == ("tabby cat", "owl")
    assert Vocabulary.from_file(headed).synonyms["tabby cat"] == ("tabby", "tiger cat")


@pytest.mark.parametrize(
    ("name", "lines", "said"),
    [
        ("a.txt", "dog | label.de: \n", "line 1: there is no label after 'label.de:'"),
        ("a.txt", "dog | label.: Hund\n", "line 1: '' is not the code of a language"),
        ("a.txt", "dog | label.deutsch: Hund\n", "'deutsch' is not the code"),
        (
            "a.txt",
            "dog | label.de: Hund\n\ndog | label.de: Köter\n",
            "line 3: label.de of 'dog' is 'Köter' here",
        ),
        (
            "a.txt",
            "dog | label.de: Hund\nDog | label.de: Köter\n",
            "line 2: label.de of 'Dog' is 'Köter' here",
        ),
        ("a.txt", "label.de: Hund\n", "line 1: there are labels in other languages but no label"),
        ("a.csv", "label,label.de,colour\ndog,Hund,brown\n", "line 1: the column 'colour' is not"),
        ("a.csv", "label,label.de,label.de\ndog,Hund,Hund\n", "line 1: 2 columns are called 'label.de'"),
        ("a.csv", "name,label.de\ndog,Hund\n", "line 1: the column 'name' is not"),
        ("a.csv", "label.de,label.fr\nHund,chien\n", "line 1: no column is called 'label'"),
        ("a.csv", "label,label.de\ndog,Hund,Köter\n", "line 2: 3 cells, but 2 columns"),
    ],
)
def test_malformed_labels_in_other_languages_are_refused(tmp_path, name, lines, said):
    (tmp_path / name).write_text(lines, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape(said)):
        Vocabulary.from_file(tmp_path / name)


def test_translations_of_unknown_labels_are_refused():
    with pytest.raises(ConfigError, match="'de' names 'dogs', which is not a label. Did you mean 'dog'"):
        Vocabulary(["dog"], translations={"de": {"dogs": "Hunde"}})
    assert Vocabulary(["Dog"], translations={"DE": {"dog": " Hund "}}).label_in("de-AT", "Dog") == "Hund"
