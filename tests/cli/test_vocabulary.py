from __future__ import annotations

import pytest

from autotag.vocabularies.vocabulary import BUNDLED, Vocabulary


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.csv"
    rows = [
        '1,"a cat, (Golden Hour:1.2), fog"',
        '2,"a dog, golden hour, fog --ar 16:9"',
        '3,"a cow, golden hour"',
    ]
    path.write_text("id,prompt\n" + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def test_build_writes_a_file_that_loads_and_says_how_many(run, prompts, tmp_path):
    output = tmp_path / "flavors.txt"
    result = run("vocabulary", "build", prompts, "--output", output, "--least-count", 2)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "2 phrases from 3 prompts\n"
    assert output.read_text(encoding="utf-8") == "golden hour\nfog\n"
    assert Vocabulary.from_file(output).labels == ("golden hour", "fog")


def test_build_prints_when_no_file_is_named(run, prompts):
    result = run("vocabulary", "build", prompts, "--least-count", 1, "--no-subjects", "--most", 1)
    assert result.stdout == "golden hour\n"
    assert run("vocabulary", "build", prompts, "--column", "id").exit_code == 2


def test_build_keeps_phrases_of_three_prompts_by_default(run, prompts):
    assert run("vocabulary", "build", prompts).stdout == "golden hour\n"


def test_build_names_the_columns_when_one_is_missing(run, prompts):
    result = run("vocabulary", "build", prompts, "--column", "promt")
    assert result.exit_code == 2
    assert "has no column 'promt'. Did you mean 'prompt'? Its columns: id, prompt." in result.stderr


def test_build_says_so_when_nothing_is_common_enough_and_writes_nothing(run, prompts, tmp_path):
    output = tmp_path / "flavors.txt"
    result = run("vocabulary", "build", prompts, "--least-count", 9, "--output", output)
    assert result.exit_code == 2
    assert "no phrase is in at least 9 of the 3 prompts" in result.stderr
    assert not output.exists()


def test_build_never_overwrites_the_prompts(run, prompts):
    before = prompts.read_bytes()
    result = run("vocabulary", "build", prompts, "--output", prompts)
    assert result.exit_code == 2
    assert "holds the prompts" in result.stderr
    assert prompts.read_bytes() == before


def test_list_counts_the_bundled_lists(run):
    lines = run("vocabulary", "list").stdout.splitlines()
    rows = [line.split() for line in lines[: len(BUNDLED)]]
    assert rows == [[name, f"{len(Vocabulary.bundled(name)):,}"] for name in BUNDLED]
    dead = len(Vocabulary.bundled("artists", living_artists=False))
    assert lines[-1] == f"Without living artists, artists holds {dead:,}."


def test_show_prints_a_bundled_list_as_a_file_that_loads(run, tmp_path):
    result = run("vocabulary", "show", "artists", "--no-living-artists")
    path = tmp_path / "artists.txt"
    path.write_text(result.stdout, encoding="utf-8")
    assert Vocabulary.from_file(path).labels == Vocabulary.bundled("artists", living_artists=False).labels
    assert result.stderr == f"{len(Vocabulary.from_file(path)):,} labels\n"


def test_show_prints_a_file_and_says_what_was_repeated(run, tmp_path):
    path = tmp_path / "rooms.txt"
    path.write_text("sofa|couch\nSofa\n", encoding="utf-8")
    result = run("vocabulary", "show", path)
    assert result.stdout == "sofa | couch\n"
    assert result.stderr == "1 labels, 1 repeated ones left out\n"


def test_show_prints_what_a_file_says_in_other_languages(run, tmp_path):
    path = tmp_path / "rooms.csv"
    path.write_text(
        "label,synonyms,label.sv,label.pt,label.pt-br\nsofa,couch,soffa,sofá,\nbed,,,,cama\n", "utf-8"
    )
    result = run("vocabulary", "show", path)
    assert result.stdout == "sofa | couch | label.sv: soffa | label.pt: sofá\nbed | label.pt-br: cama\n"
    assert (
        run("vocabulary", "show", path, "--language", "sv").stdout == "sofa | couch | label.sv: soffa\nbed\n"
    )
    (tmp_path / "again.txt").write_text(result.stdout, "utf-8")
    again, first = map(Vocabulary.from_file, (tmp_path / "again.txt", path))
    assert (again.labels, again.translations) == (first.labels, first.translations)
    assert "label." not in run("vocabulary", "show", "things").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moviments",), "unknown bundled vocabulary 'moviments'. Did you mean 'movements'?"),
        (("artists", "--column", "name"), "has no column 'name'"),
        (("nowhere.txt",), "vocabulary file nowhere.txt cannot be read"),
        (("rooms.txt", "--no-living-artists"), "does not say who is alive"),
    ],
)
def test_show_refuses_what_makes_no_sense(run, arguments, message):
    result = run("vocabulary", "show", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
