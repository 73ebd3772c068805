"""Text files beside photographs."""

from __future__ import annotations

import pytest

from autotag.albums.writers.text_writer import TextWriter
from autotag.errors import ConfigError, MetadataError
from autotag.records import Caption, Result, Tag

FOUND = Result(
    "a.jpg",
    (1, 1),
    captions=(Caption("a dog, on grass", "test"),),
    tags=tuple(Tag.proposed(text, 0.5, "test") for text in ("dog", "grass", "smile (happy)")),
    prompt="a dog, on grass, smile",
)


def written(folder, writer, before=None, name="a.txt"):
    (folder / "a.jpg").touch()
    if before is not None:
        (folder / name).write_bytes(before)
    for change in writer.changes(folder / "a.jpg", FOUND):
        change.apply()
    assert writer.changes(folder / "a.jpg", FOUND) == [], "a second time there is nothing to do"
    return (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "content"),
    [
        ({}, b"dog, grass, smile (happy)\n"),
        ({"separator": "newline"}, b"dog\ngrass\nsmile (happy)\n"),
        ({"content": "caption"}, b"a dog, on grass\n"),
        ({"content": "prompt"}, b"a dog, on grass, smile\n"),
        ({"content": "caption_and_tags"}, b"a dog, on grass, dog, grass, smile (happy)\n"),
        ({"escape": True}, b"dog, grass, smile \\(happy\\)\n"),
    ],
)
def test_a_new_file_says_what_was_asked_for(tmp_path, options, content):
    assert written(tmp_path, TextWriter(**options)) == content


@pytest.mark.parametrize(
    ("mode", "content"),
    [
        ("skip", b"my Dog, mine,\nDOG \n"),
        ("append", b"my Dog, mine,\nDOG, grass, smile (happy) \n"),
        ("prepend", b"grass, smile (happy), my Dog, mine,\nDOG \n"),
        ("overwrite", b"dog, grass, smile (happy)\n"),
    ],
)
def test_a_file_that_is_there_is_treated_as_the_mode_says(tmp_path, mode, content):
    assert written(tmp_path, TextWriter(mode=mode), b"my Dog, mine,\nDOG \n") == content


@pytest.mark.parametrize("mode", ["append", "prepend"])
@pytest.mark.parametrize("content", ["tags", "caption", "prompt", "caption_and_tags"])
@pytest.mark.parametrize("separator", ["comma", "newline"])
@pytest.mark.parametrize("before", [b"", b"mine", b"mine, dog\n", b"one\ntwo\n"])
def test_adding_twice_adds_once_and_keeps_every_word_of_mine(tmp_path, mode, content, separator, before):
    writer = TextWriter(mode=mode, content=content, separator=separator)
    assert before.strip() in written(tmp_path, writer, before)


@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ({"mode": "append"}, "\ufeffmine\r\n\r\n", "\ufeffmine, dog, grass, smile (happy)\r\n\r\n"),
        ({"mode": "append"}, "mine, ", "mine, dog, grass, smile (happy) "),
        ({"mode": "append"}, "\ufeff\r\n", "\ufeffdog, grass, smile (happy)\r\n"),
        ({"mode": "prepend"}, "\ufeff  mine\r\n\r\n", "\ufeff  dog, grass, smile (happy), mine\r\n\r\n"),
        (
            {"mode": "append", "separator": "newline"},
            "a\r\nb\r\n",
            "a\r\nb\r\ndog\r\ngrass\r\nsmile (happy)\r\n",
        ),
        ({"mode": "prepend", "separator": "newline"}, "a\r\n", "dog\r\ngrass\r\nsmile (happy)\r\na\r\n"),
    ],
)
def test_what_was_there_stays_with_its_mark_line_ends_blank_lines_and_spaces(
    tmp_path, options, before, after
):
    assert written(tmp_path, TextWriter(**options), before.encode()).decode() == after


def test_undo_brings_the_former_bytes_back(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"mine\r\n")
    (tmp_path / "a.jpg").touch()
    [change] = TextWriter(mode="append").changes(tmp_path / "a.jpg", FOUND)
    change.apply()
    change.undo()
    assert (tmp_path / "a.txt").read_bytes() == b"mine\r\n"


def test_full_names_keep_pictures_of_one_stem_apart(tmp_path):
    (tmp_path / "a.png").touch()
    with pytest.raises(MetadataError, match=r"would be shared with a\.png; set txt\.naming=full"):
        written(tmp_path, TextWriter())
    assert written(tmp_path, TextWriter(naming="full"), name="a.jpg.txt").startswith(b"dog")


def test_nothing_is_added_to_what_is_not_utf_8(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    with pytest.raises(MetadataError, match="not UTF-8"):
        TextWriter(mode="append").changes(tmp_path / "a.jpg", FOUND)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"mode": "apend"}, "Did you mean 'append'"),
        ({"content": "tag"}, "Did you mean 'tags'"),
        ({"separator": "coma"}, "Did you mean 'comma'"),
        ({"naming": "stam"}, "Did you mean 'stem'"),
        ({"suffix": "txt"}, "not an extension"),
        ({"suffix": ".jpg", "mode": "overwrite"}, "would be overwritten"),
        ({"suffix": ".MOV"}, "would be overwritten"),
        ({"suffix": ".old.xmp"}, "would be overwritten"),
    ],
)
def test_wrong_options_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        TextWriter(**options)


def test_it_knows_beforehand_where_it_writes_nothing(tmp_path):
    photo = tmp_path / "a.jpg"
    assert TextWriter().would_write(photo)
    (tmp_path / "a.txt").write_text("mine")
    assert not TextWriter().would_write(photo)
    assert TextWriter(mode="append").would_write(photo)
    (tmp_path / "a.png").touch()
    assert TextWriter().would_write(photo)  # and says that two pictures would share the file
