from __future__ import annotations

import pytest

from autotag.errors import ConfigError
from autotag.vocabularies.mining import LONGEST, PhraseCount, mine_phrases, read_prompts


def phrases(*prompts: str, **options: object) -> list[str]:
    return [phrase.text for phrase in mine_phrases(prompts, **{"least_count": 1, **options})]


def test_phrases_come_by_count_and_then_by_text():
    prompts = ["sea, blue, art", "blue, sea", "blue, zoo, art"]
    assert mine_phrases(prompts, least_count=2) == [
        PhraseCount("blue", 3),
        PhraseCount("art", 2),
        PhraseCount("sea", 2),
    ]
    assert phrases(*prompts, most=2) == ["blue", "art"]
    assert phrases(*reversed(prompts)) == phrases(*prompts)


def test_a_phrase_counts_once_per_prompt_whatever_its_case_and_spaces():
    assert mine_phrases(["Oil  Painting, oil painting", "OIL PAINTING"], least_count=1) == [
        PhraseCount("oil painting", 2)
    ]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("(word:1.2)", ["word"]),
        ("((deep [shadow] here)), {fog}", ["deep shadow here", "fog"]),
        ("(a, b:1.3), c", ["a", "b", "c"]),
        ("[cat:dog:0.5]", ["cat", "dog"]),
        (r"saber \(fate\)", ["saber (fate)"]),
        ("fog<lora:more_fog-v2:0.8>rain <hypernet:x:1>", ["fog", "rain"]),
        ("fog --ar 16:9 --no text, blur", ["fog"]),
        ("--v 5", []),
        ("fog::2 rain::-0.5 snow::", ["fog", "rain", "snow"]),
        ("https://example.org/a,b.png fog, www.example.org", ["fog"]),
        ("one; two | three\nfour BREAK five AND six", ["five", "four", "one", "six", "three", "two"]),
        ("雾，雨、雪", ["雨", "雪", "雾"]),
        ("A foggy day. By Dr. J. C. Smith!", ["a foggy day", "by dr. j. c. smith"]),
        (
            "4:3 format, f/1.8, well-made, rock 'n' roll",
            ["4:3 format", "f/1.8", "rock 'n' roll", "well-made"],
        ),
        ("#fog, *rain*, “snow”, - hail -", ["fog", "hail", "rain", "snow"]),
        ("fire 🔥, 🔥, 8, 16:9, ...", ["fire 🔥"]),
        ("lost \ufffd, bell \x07, dÃ©coupage", ["dã©coupage"]),
        ("fog <|endoftext|> rain, <end_of_text>, &lt;/s&gt; snow &amp; ice", ["fog", "rain", "snow & ice"]),
        ("a" * LONGEST + ", " + "b" * (LONGEST + 1), ["a" * LONGEST]),
        ("", []),
        (" , ,, ", []),
    ],
)
def test_what_a_prompt_is_split_into(prompt, wanted):
    assert phrases(prompt) == wanted


def test_subjects_can_be_left_out():
    assert phrases("a cat, fog", ", a dog, fog", "fog", subjects=False) == ["fog"]


@pytest.mark.parametrize("options", [{"least_count": 0}, {"most": 0}, {"least_count": 2.5}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        mine_phrases(["fog"], **options)


def test_prompts_are_read_from_a_column_also_over_several_lines(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_bytes('\ufeffid,prompt\r\n1,"a cat,\r\nfog"\r\n2,\r\n3, rain \r\n'.encode())
    assert read_prompts(path) == ["a cat,\nfog", "rain"]
    assert read_prompts(path, column="id") == ["1", "2", "3"]


def test_prompts_are_read_from_tab_separated_values_and_from_lines(tmp_path):
    (tmp_path / "prompts.tsv").write_text("id\tprompt\n1\ta cat, fog\n", encoding="utf-8")
    (tmp_path / "prompts.txt").write_text("a cat, fog\n\n# rain\n", encoding="utf-8")
    assert read_prompts(tmp_path / "prompts.tsv") == ["a cat, fog"]
    assert read_prompts(tmp_path / "prompts.txt") == ["a cat, fog", "# rain"]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("p.csv", b"", None, "is not a table"),
        ("p.csv", b"prompt\n", None, "has no prompts"),
        ("p.csv", b"prompt\n\n ,\n", None, "has no prompts"),
        (
            "p.csv",
            b"id,prompts\n1,fog\n",
            None,
            "no column 'prompt'. Did you mean 'prompts'. Its columns: id, prompts",
        ),
        ("p.csv", b"id,text\n1,fog\n", None, "no column 'prompt'. Known: id, text"),
        ("p.csv", b"prompt,prompt\nfog,rain\n", None, "2 columns called 'prompt'"),
        ("p.csv", b"prompt\nfog\n\xe9t\xe9\n", None, "line 3: not UTF-8"),
        ("p.csv", b'prompt\n"fog\n', None, "line 2: not CSV"),
        ("p.csv", b"prompt\n" + b"a" * 200_000, None, "line 2: not CSV"),
        ("p.txt", b"\n\n", None, "has no prompts"),
        ("p.txt", b"\xff\xfef\x00", None, "line 1: not UTF-8"),
        ("p.txt", b"fog\n", "prompt", "is not a table"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_what_is_wrong(tmp_path, name, content, column, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name}.*{message}"):
        read_prompts(path, column=column)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.csv cannot be read"):
        read_prompts(tmp_path / "nowhere.csv")
