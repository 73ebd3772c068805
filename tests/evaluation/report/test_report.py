from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from autotag import Pipeline
from autotag.errors import ConfigError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.evaluation.evaluate import Judges, evaluate
from autotag.evaluation.report.report import to_dict, write_report
from autotag.evaluation.report.text import figure_rows, headings, verdicts
from autotag.evaluation.sentence_encoder import SentenceEncoder
from autotag.stages import CaptionImages
from autotag.testing import FakeCaptioner, FakeEncoder, make_image

NASTY = '<img src=x onerror="alert(1)"> | *"red"*\nsecond line'
SENTENCES = SentenceEncoder("fake", lambda texts: FakeEncoder().embed_texts(texts))


def saying(text: str | None = None) -> Pipeline:
    return Pipeline([CaptionImages(FakeCaptioner(text))], encoder=None)


@pytest.fixture
def dataset(tmp_path: Path) -> EvaluationSet:
    examples = []
    for colour in ("red", "green", "blue", "white"):
        make_image(colour).save(tmp_path / f"{colour}.png")
        examples.append(Example(f"{colour} & <b>.png", tmp_path / f"{colour}.png", (f"a {colour} picture",)))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    return EvaluationSet("<colours>", (*examples, Example("bad.png", bad, (NASTY,))), 2, 1)


@pytest.fixture
def evaluation(dataset):
    models = {"sees<i>": saying(), "nasty": saying(NASTY)}
    return evaluate(dataset, models, judges=Judges(SENTENCES, FakeEncoder(), "some-clip"))


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.handlers: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag not in {"meta", "img"}:
            self.open.append(tag)
        for name, value in attrs:
            if name in {"src", "href"}:
                self.sources.append(value)
            if name.startswith("on"):
                self.handlers.append(name)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, text) -> None:
        self.words.append(text)


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_beside_it(evaluation, tmp_path) -> None:
    text = write_report(evaluation, tmp_path / "new" / "report").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert all(source.startswith("data:image/") for source in page.sources)
    assert len([source for source in page.sources if source.startswith("data:image/jpeg")]) >= 4
    assert {"script", "link", "b>"}.isdisjoint(page.tags)
    assert re.search(r"url\((?!#)", text) is None  # "#" is a part of the page itself
    assert page.tags.count("svg") >= 5


@pytest.mark.slow
def test_the_page_has_every_chart_and_is_the_same_every_time(evaluation, tmp_path) -> None:
    text = write_report(evaluation, tmp_path).read_text(encoding="utf-8")
    for title in (
        "Quality against time",
        "similarity of single images",
        "Length of texts",
        "Frequent words",
        "Similarity of texts: nasty",
        "Texts in a plane: nasty",
    ):
        assert f"<figcaption>{title}</figcaption>" in text
    assert write_report(evaluation, tmp_path).read_text(encoding="utf-8") == text


def test_without_matplotlib_a_page_is_refused_and_the_rest_is_written(
    evaluation, tmp_path, monkeypatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'autotag-images\[report\]'.*--no-html"):
        write_report(evaluation, tmp_path / "page")
    assert not (tmp_path / "page").exists()
    assert write_report(evaluation, tmp_path, html=False) == tmp_path / "report.md"
    assert {path.name for path in tmp_path.glob("report.*")} == {"report.md", "report.json"}


@pytest.mark.slow
def test_charts_are_drawn_without_pyplot_and_matplotlib_is_imported_for_a_page_only() -> None:
    program = (
        "import sys, autotag.cli.evaluate, autotag.evaluation.report.report\n"
        "assert not {'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "import autotag.evaluation.report.page\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=600)


@pytest.mark.slow
def test_few_models_stand_side_by_side_so_that_no_figure_is_off_the_page(evaluation, tmp_path) -> None:
    page = Page(write_report(evaluation, tmp_path).read_text(encoding="utf-8"))
    rows = len(headings(evaluation))
    assert page.tags.count("tr") == rows
    assert page.tags.count("th") == 1 + len(evaluation.judged) + rows - 1, "each column and row has a name"


@pytest.mark.slow
def test_nothing_that_a_model_or_file_says_becomes_markup(evaluation, tmp_path) -> None:
    page = Page(write_report(evaluation, tmp_path).read_text(encoding="utf-8"))
    assert page.handlers == []
    shown = " ".join(page.words)
    assert 'onerror="alert(1)"' in shown
    assert "sees<i>" in shown
    assert "red & <b>.png" in shown
    assert "no picture" in shown
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "<img" not in markdown.replace("\\<img", "")
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} <= {6, len(to_table(evaluation)) + 1}


def to_table(evaluation) -> list[str]:
    from autotag.evaluation.report.text import headings

    return headings(evaluation)


@pytest.mark.slow
def test_left_out_images_and_failures_are_told(evaluation, tmp_path) -> None:
    write_report(evaluation, tmp_path)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "2 images without text or tags" in markdown
    assert "1 entries whose image is missing" in markdown
    assert "cannot read image" in markdown
    assert "by some-clip" in markdown.replace("\\", "")


@pytest.mark.slow
def test_json_holds_every_figure_and_text(evaluation, tmp_path) -> None:
    write_report(evaluation, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(to_dict(evaluation)))
    best = found["models"][0]
    assert best["name"] == "sees<i>"
    assert best["texts"][0] == "a red picture"
    assert best["figures"]["similarity"]["interval"]["level"] == 0.95
    assert len(best["per_image"]["cider_d"]) == 5
    assert best["failed"] == 1
    assert found["images"][4]["texts"] == [NASTY]


def test_the_table_has_a_line_for_each_figure(evaluation) -> None:
    lines = figure_rows(evaluation)
    assert lines[0] == ("model", "sees<i>", "nasty")
    assert lines[1][0] == "similarity"
    assert {line[0] for line in lines} >= {"CIDEr-D", "BLEU-4", "images/s", "memory", "failed"}


def test_a_verdict_needs_more_than_a_few_images(evaluation) -> None:
    [verdict] = verdicts(evaluation)
    assert "cannot be told apart" in verdict


@pytest.mark.slow
def test_one_image_concludes_nothing(dataset, tmp_path) -> None:
    single = replace(dataset, examples=dataset.examples[:1])
    found = evaluate(single, {"sees": saying()}, judges=Judges(SENTENCES))
    assert verdicts(found) == [
        "One image only: there is no interval, and nothing can be concluded for other images."
    ]
    assert not any("[" in cell for row in figure_rows(found) for cell in row)
    assert Page(write_report(found, tmp_path).read_text(encoding="utf-8")).open == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_is_refused(evaluation, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot write the report"):
        write_report(evaluation, tmp_path / "file")


@pytest.mark.slow
def test_an_ensemble_of_embeddings_is_in_every_report_without_texts_of_its_own(dataset, tmp_path) -> None:
    models = {"red": saying("a red picture"), "sees": saying()}
    found = evaluate(dataset, models, judges=Judges(SENTENCES, FakeEncoder()), ensemble=(1, 1))
    name = "red 0.5 + sees 0.5"
    [row] = [model for model in to_dict(found)["models"] if model["name"] == name]
    assert row["members"] == ["red", "sees"]
    assert "cider_d" not in row["figures"]
    assert name in figure_rows(found)[0]
    text = write_report(found, tmp_path / "report").read_text(encoding="utf-8")
    assert f"{name}: best and worst" in text
    assert f"Texts in a plane: {name}" in text
    assert f"{name}</span>" not in text.partition("Length of texts")[2].partition("Similarity of texts")[0]
    assert "the mean of their embeddings" in text
