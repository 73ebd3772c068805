from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from autotag import Pipeline
from autotag.errors import ConfigError, UnknownNameError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.evaluation.ensembles import mean_embedding
from autotag.evaluation.evaluate import Judges, evaluate
from autotag.evaluation.model_runs import pipelines_of, run_model
from autotag.evaluation.sentence_encoder import SentenceEncoder
from autotag.pipeline.function_stage import stage
from autotag.records import Caption, Tag
from autotag.stages import CaptionImages
from autotag.testing import FakeCaptioner, FakeEncoder, make_image

COLOURS = ("red", "green", "blue", "yellow", "white", "black")
SENTENCES = SentenceEncoder("fake", lambda texts: FakeEncoder().embed_texts(texts))
JUDGES = Judges(SENTENCES, FakeEncoder())


@pytest.fixture
def dataset(tmp_path: Path) -> EvaluationSet:
    examples = []
    for colour in COLOURS:
        make_image(colour).save(tmp_path / f"{colour}.png")
        texts = (f"a {colour} picture", f"a square of {colour}")
        examples.append(Example(f"{colour}.png", tmp_path / f"{colour}.png", texts))
    return EvaluationSet("colours", tuple(examples))


def saying(text: str | None = None) -> Pipeline:
    return Pipeline([CaptionImages(FakeCaptioner(text))], encoder=None)


def value(judged, name: str) -> float:
    return judged.figures[name].value


def test_models_are_ordered_by_the_deciding_figure(dataset) -> None:
    found = evaluate(dataset, {"always": saying("a red picture"), "sees": saying()}, judges=JUDGES)
    assert [one.run.name for one in found.judged] == ["sees", "always"]
    assert found.deciding == "similarity"
    assert found.judges == {"sentences": "fake", "clip": FakeEncoder().id}
    sees, always = found.judged
    for name in ("similarity", "cider_d", "rouge_l", "bleu_4", "text_found_at_1"):
        assert value(sees, name) > value(always, name), name
    assert value(sees, "text_found_at_1") == 1
    image_vectors = JUDGES.clip.embed_images([make_image("red")])
    text_vectors = JUDGES.clip.embed_texts(["A photo depicts a red picture"])
    cosine = float((image_vectors @ text_vectors.T)[0, 0])
    assert sees.per_image("clip_score")[0] == pytest.approx(2.5 * max(cosine, 0), abs=1e-5)
    assert 0 <= value(sees, "image_found_at_1") <= value(sees, "image_found_at_5") <= 1
    assert sees.best_matches.tolist() == list(range(6))
    interval = sees.figures["rouge_l"].interval
    assert interval.low <= value(sees, "rouge_l") <= interval.high
    assert sees.run.images_per_second > 0


def test_the_matrix_holds_matched_pairs_on_its_diagonal(dataset) -> None:
    [one] = evaluate(dataset, {"sees": saying()}, judges=JUDGES).judged
    vectors = SENTENCES.vectors(["a red picture", "a square of red"])
    assert one.matrix[0, 0] == pytest.approx((1 + vectors[0] @ vectors[1]) / 2, abs=1e-5)
    assert one.per_image("similarity") == pytest.approx(np.diagonal(one.matrix))
    assert one.per_image("bleu_4") is None


def test_every_pair_is_tested_and_a_few_images_prove_little(dataset) -> None:
    models = {"sees": saying(), "red": saying("a red picture"), "blue": saying("a blue picture")}
    found = evaluate(dataset, models, judges=JUDGES)
    assert len(found.comparisons) == 3
    assert all(pair.p_value > 0.01 for pair in found.comparisons)
    assert all(pair.difference >= 0 for pair in found.comparisons)


def test_equal_models_are_not_told_apart(dataset) -> None:
    [pair] = evaluate(dataset, {"one": saying(), "other": saying()}, judges=JUDGES).comparisons
    assert (pair.p_value, pair.difference) == (1, 0)


def test_the_same_seed_gives_the_same_figures(dataset) -> None:
    def figures(seed: int):
        judged = evaluate(dataset, {"a": saying("a red picture")}, judges=JUDGES, seed=seed).judged
        return judged[0].figures

    assert figures(1) == figures(1)
    assert figures(1) != figures(2)


def test_a_model_that_writes_nothing_scores_0_everywhere(dataset) -> None:
    @stage(provides={"captions"})
    def silent(sample):
        sample.captions = []

    [one] = evaluate(dataset, {"silent": Pipeline([silent], encoder=None)}, judges=JUDGES).judged
    assert one.run.empty == 6
    assert {name: round(figure.value, 3) for name, figure in one.figures.items()} == dict.fromkeys(
        one.figures, 0
    )


def test_one_image_has_figures_without_intervals_and_no_cider(dataset) -> None:
    single = replace(dataset, examples=dataset.examples[:1])
    found = evaluate(single, {"one": saying(), "other": saying("blue")}, judges=JUDGES)
    assert all(figure.interval is None for one in found.judged for figure in one.figures.values())
    assert "cider_d" not in found.judged[0].figures
    assert found.comparisons[0].interval is None
    assert found.comparisons[0].p_value == 1


def test_an_image_that_cannot_be_read_counts_as_nothing_said(dataset, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    examples = (*dataset.examples, Example("bad.png", bad, ("a grey picture",)))
    [one] = evaluate(replace(dataset, examples=examples), {"sees": saying()}, judges=JUDGES).judged
    assert (one.run.failed, one.run.empty) == (1, 0)
    assert "bad.png" in one.run.errors[-1]
    assert [one.per_image(name)[-1] for name in ("similarity", "cider_d", "clip_score")] == [0, 0, 0]


def test_languages_and_marks_of_any_kind_are_judged(dataset) -> None:
    texts = ["ein „rotes“ Bild", "красная\nкартина", "一张红色的图片", "🟥", '"', "<b>red</b>"]
    examples = tuple(
        replace(example, texts=(text,)) for example, text in zip(dataset.examples, texts, strict=True)
    )
    judged = evaluate(
        replace(dataset, examples=examples), {"same": saying("一张红色的图片")}, judges=JUDGES
    ).judged
    assert judged[0].per_image("rouge_l").tolist() == [0, 0, 1, 0, 0, 0]
    assert judged[0].per_image("similarity")[2] == pytest.approx(1, abs=1e-5)


def test_without_judges_words_are_compared(dataset) -> None:
    found = evaluate(dataset, {"sees": saying()}, judges=Judges())
    assert found.deciding == "cider_d"
    assert set(found.judged[0].figures) == {"cider_d", "rouge_l", "bleu_4"}


@dataclass
class GiveTags:
    """Gives the colour that the file is called, ``extra`` words, and nothing for white."""

    extra: tuple[str, ...] = ()
    name: str = "give_tags"
    requires = frozenset()
    provides = frozenset({"tags"})

    def __call__(self, samples) -> None:
        for sample in samples:
            words = (Path(sample.source).stem, *self.extra)
            sample.tags = [
                Tag.proposed(word.upper(), 1 - place / 10, self.name)
                for place, word in enumerate(words)
                if Path(sample.source).stem != "white"
            ]


def test_tags_are_judged_label_by_label(dataset) -> None:
    tagged = tuple(
        replace(example, texts=(), tags=(Path(example.id).stem.title(),)) for example in dataset.examples
    )
    labelled = replace(dataset, examples=tagged)
    models = {
        "right": Pipeline([GiveTags()], encoder=None),
        "talks": Pipeline([GiveTags(("red", "sky"))], encoder=None),
    }
    found = evaluate(labelled, models, judges=Judges())
    right, talks = found.judged
    assert found.deciding == "f1_macro"
    assert right.run.name == "right"
    assert value(right, "precision_micro") == 1
    assert value(right, "recall_micro") == pytest.approx(5 / 6)
    assert value(right, "recall_macro") == pytest.approx(5 / 6)
    assert value(right, "without_tag") == pytest.approx(1 / 6)
    assert value(right, "tags_per_image") == pytest.approx(5 / 6)
    assert value(talks, "precision_micro") == pytest.approx(5 / 9)  # sky is not a label
    assert value(talks, "tags_per_image") == pytest.approx(15 / 6)
    assert value(right, "mean_average_precision") == pytest.approx((5 + 1 / 6) / 6)


def test_an_ensemble_is_judged_by_the_mean_of_its_members_embeddings(dataset) -> None:
    models = {"red": saying("a red picture"), "sees": saying()}
    found = evaluate(dataset, models, judges=JUDGES, ensemble=(1, 3))
    by_name = {one.run.name: one for one in found.judged}
    both = by_name["red 0.25 + sees 0.75"]
    assert both.members == ("red", "sees")
    assert set(both.figures) == {"similarity", "text_found_at_1", "text_found_at_5"}
    vectors = mean_embedding([by_name["red"].vectors, by_name["sees"].vectors], (1, 3))
    assert np.array_equal(both.vectors, vectors)
    expected = np.einsum("nd,nd->n", vectors, found.true_vectors)
    assert both.per_image("similarity") == pytest.approx(expected, abs=1e-6)
    assert both.run.texts[:2] == ("a red picture | a red picture", "a red picture | a green picture")
    assert both.run.seconds == by_name["red"].run.seconds + by_name["sees"].run.seconds
    assert len(found.comparisons) == 3


def test_a_member_that_failed_or_said_nothing_leaves_the_image_to_the_others(dataset, tmp_path) -> None:
    @stage(provides={"captions"})
    def half(sample):
        if "red" in sample.source:
            raise ValueError("no eyes for red")
        sample.captions = [] if "blue" in sample.source else [Caption("a green picture", "half")]

    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    examples = (*dataset.examples, Example("bad.png", bad, ("a grey picture",)))
    models = {"half": Pipeline([half], encoder=None), "sees": saying()}
    found = evaluate(replace(dataset, examples=examples), models, judges=JUDGES, ensemble=(9, 1))
    by_name = {one.run.name: one for one in found.judged}
    both, sees = by_name["half 0.9 + sees 0.1"], by_name["sees"]
    assert (both.run.failed, both.run.empty) == (1, 0)
    assert both.run.texts[0] == "a red picture"
    for row in (0, 2):
        assert both.vectors[row] == pytest.approx(sees.vectors[row], abs=1e-6)
    assert both.per_image("similarity")[-1] == 0


def test_an_ensemble_that_cannot_be_is_refused_before_anything_runs(dataset) -> None:
    with pytest.raises(ConfigError, match="models: 1, weights: 2"):
        evaluate(dataset, {"sees": saying()}, judges=JUDGES, ensemble=(1, 1))
    with pytest.raises(ConfigError, match="needs a sentence encoder"):
        evaluate(dataset, {"sees": saying()}, judges=Judges(), ensemble=(1,))


@pytest.mark.slow
def test_a_preset_file_with_several_captioners_is_a_model_like_any(dataset, tmp_path) -> None:
    file = tmp_path / "ensemble.toml"
    file.write_text(
        'encoder = "clip-mini"\n[[stages]]\nstage = "caption_images"\nmodel = ["blip-mini"]\ncandidates = 3\n'
        'max_new_tokens = 6\n[[stages]]\nstage = "choose_caption"\n'
    )
    single = replace(dataset, examples=dataset.examples[:2])
    models = pipelines_of([str(file), "blip-mini"], device="cpu")
    found = evaluate(single, models, judges=Judges(SENTENCES))
    assert {one.run.name for one in found.judged} == {str(file), "blip-mini"}
    assert all(one.run.failed == one.run.empty == 0 for one in found.judged)


def test_models_that_do_not_fit_are_refused_before_anything_runs(dataset) -> None:
    with pytest.raises(ConfigError, match="'tags' does not write a caption"):
        evaluate(dataset, {"tags": Pipeline([GiveTags()], encoder=None)}, judges=Judges())
    with pytest.raises(ConfigError, match="'sees' does not write a prompt"):
        evaluate(dataset, {"sees": saying()}, judges=Judges(), text="prompt")
    tagged = replace(
        dataset, examples=tuple(replace(one, texts=(), tags=("red",)) for one in dataset.examples)
    )
    with pytest.raises(ConfigError, match="'sees' gives no tags"):
        evaluate(tagged, {"sees": saying()}, judges=Judges())
    with pytest.raises(ConfigError, match="at least one model"):
        evaluate(dataset, {}, judges=Judges())


def test_models_are_named_by_preset_file_or_captioner(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('encoder = "clip-mini"\n[[stages]]\nstage = "caption_images"\nmodel = "blip-mini"\n')
    found = pipelines_of(["mini", "blip-base", str(file)], device="cpu", batch_size=None)
    assert [pipeline.stages[0].model for pipeline in found.values()] == [
        "blip-mini",
        "blip-base",
        "blip-mini",
    ]
    assert {pipeline.device for pipeline in found.values()} == {"cpu"}


def test_a_misspelt_model_is_refused_with_the_near_miss() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'blip-base'"):
        pipelines_of(["blip-bas"])
    with pytest.raises(UnknownNameError, match="Did you mean 'large'"):
        pipelines_of(["larg"])
    with pytest.raises(ConfigError, match="'mini' is named twice"):
        pipelines_of(["mini", "base", "mini"])


def test_a_run_closes_its_pipeline_and_counts(dataset) -> None:
    seen: list[int] = []
    pipeline = saying()
    run = run_model("sees", pipeline, dataset, on_image=lambda: seen.append(1))
    assert len(seen) == 6
    assert run.texts[0] == "a red picture"
    assert run.tags is None
    assert run.memory is None or run.memory >= 0
    with pytest.raises(Exception, match="closed"):
        pipeline(make_image("red"))


def test_more_images_than_are_compared_at_once_give_the_same_as_the_whole_matrix(tmp_path) -> None:
    make_image("red").save(tmp_path / "red.png")
    names = [f"a {one} {other} picture" for one in range(30) for other in COLOURS]
    examples = tuple(Example(name, tmp_path / "red.png", (name,)) for name in names)
    encoder = SENTENCES.vectors(["a red picture", *names])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autotag.evaluation.evaluate._ROWS_AT_ONCE", 64)
        [one] = evaluate(EvaluationSet("many", examples), {"red": saying()}, judges=Judges(SENTENCES)).judged
    whole = np.repeat(encoder[:1], len(names), axis=0) @ encoder[1:].T
    assert one.per_image("similarity") == pytest.approx(np.diagonal(whole), abs=1e-5)
    assert one.per_image("text_found_at_5").sum() == 5
    assert one.matrix.shape == (150, 150)
    assert one.matrix == pytest.approx(whole[:150, :150], abs=1e-5)
