from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import autotag
from autotag.cli.learn import _encoder
from autotag.metadata import MachineTag, with_machine_tags
from autotag.relevance.learned_keywords import LearnedKeywords
from autotag.review.decisions import Decision, Where
from autotag.review.session import Review
from autotag.search import Index
from autotag.stages import EmbedImages


def picture(path, colour, shape, seed):
    """A shape on noise: pictures of one kind resemble one another without being near copies."""
    draw = np.random.default_rng(seed)
    noise = draw.integers(0, 256, size=(6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((120, 120))
    left, top = draw.integers(5, 45, size=2).tolist()
    getattr(ImageDraw.Draw(image), shape)((left, top, left + 65, top + 65), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, quality=92)


def sidecar(path, *keywords):
    items = "".join(f"<rdf:li>{keyword}</rdf:li>" for keyword in keywords)
    path.with_name(path.name + ".xmp").write_text(
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:lr="http://ns.adobe.com/lightroom/1.0/"><lr:hierarchicalSubject>'
        f"<rdf:Bag>{items}</rdf:Bag></lr:hierarchicalSubject></rdf:Description></rdf:RDF></x:xmpmeta>",
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(16):
        for keyword, colour, shape in (("Balls|Ball", "red", "ellipse"), ("Boxes|Box", "blue", "rectangle")):
            path = folder / f"{shape}-{number}.jpg"
            picture(path, colour, shape, number)
            sidecar(path, keyword, *(["People|Anna"] if number < 2 else []))
    return folder


@pytest.mark.slow
def test_keywords_of_sidecars_are_learned_and_suggested(run, photos, tmp_path):
    file = tmp_path / "family.tags"
    learned = run("learn", photos, "--preset", "mini", "--output", file)
    assert learned.exit_code == 0, learned.output
    assert "Balls|Ball\t16 photographs\tAP " in learned.stdout
    assert "not learned: People|Anna: it has 4 of the 8 photographs that are needed" in learned.stderr
    words = {str(keyword) for keyword in LearnedKeywords.load(file).keywords}
    assert words == {"Balls", "Balls|Ball", "Boxes", "Boxes|Box"}
    content = file.read_bytes()
    assert b"ellipse" not in content
    assert b"Anna" not in content
    preset = tmp_path / "family.toml"
    preset.write_text(
        f'encoder = "clip-mini"\n[[stages]]\nstage = "suggest_keywords"\nkeywords = "{file}"\n',
        encoding="utf-8",
    )
    picture(tmp_path / "new.jpg", "red", "ellipse", 99)
    tagged = run("tag", "--preset", preset, "--format", "jsonl", tmp_path / "new.jpg")
    [tag] = json.loads(tagged.stdout)["tags"]
    assert (tag["text"], tag["path"]) == ("Ball", ["Balls", "Ball"])
    assert run("learn", photos, "--preset", "mini", "--output", file).exit_code == 2
    assert "exists already" in run("learn", photos, "--preset", "mini", "--output", file).stderr


@pytest.mark.slow
def test_machine_tags_teach_nothing_and_those_that_were_removed_teach_where_not(photos, tmp_path):
    from autotag.learning.photographs import in_files

    path = tmp_path / "a.jpg"
    picture(path, "red", "ellipse", 0)
    packet = with_machine_tags(None, [MachineTag("Ball", 0.9), MachineTag("Box", 0.8)])
    beside = path.with_name("a.jpg.xmp")
    beside.write_bytes(packet)
    [photo] = in_files([path])
    assert not photo.teaches
    without = packet.replace(b"<rdf:li>Box</rdf:li>", b"")
    assert without != packet
    beside.write_bytes(without)
    [photo] = in_files([path])
    assert photo.removed == ("Box",)
    assert photo.keywords.flat == ()


@pytest.mark.slow
def test_a_table_teaches_and_excluded_keywords_do_not(run, photos, tmp_path):
    rows = [
        {"file_name": path.name, "tags": ["round" if "ellipse" in path.name else "square", "ours"]}
        for path in sorted(photos.glob("*.jpg"))
    ]
    table = tmp_path / "keywords.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for path in photos.glob("*.jpg"):
        (tmp_path / path.name).symlink_to(path)
    file = tmp_path / "shapes.tags"
    learned = run("learn", table, "--preset", "mini", "--exclude", "SQ*", "--output", file)
    assert learned.exit_code == 0, learned.output
    assert [str(keyword) for keyword in LearnedKeywords.load(file).keywords] == ["round"]
    assert "not learned: ours: it is on every photograph" in learned.stderr


def test_photographs_without_keywords_are_refused(run, tmp_path):
    picture(tmp_path / "a.jpg", "red", "ellipse", 0)
    ended = run("learn", tmp_path, "--preset", "mini", "--output", tmp_path / "none.tags")
    assert ended.exit_code == 2
    assert "no photograph has a keyword that a person gave" in ended.stderr
    assert run("learn", "--output", tmp_path / "none.tags").exit_code == 2


def test_keywords_of_too_few_photographs_write_no_file(run, tmp_path):
    picture(tmp_path / "a.jpg", "red", "ellipse", 0)
    sidecar(tmp_path / "a.jpg", "Ball", "пляж")
    ended = run("learn", tmp_path, "--preset", "mini", "--output", tmp_path / "none.tags")
    assert ended.exit_code == 1
    assert "not learned: пляж: it has 1 of the 8 photographs that are needed" in ended.stderr
    assert not (tmp_path / "none.tags").exists()


@pytest.mark.slow
def test_decisions_about_a_plan_teach(run, photos, tmp_path):
    """Without sidecars: what a person confirmed and rejected on the Review page is all that is known."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for path in photos.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "words.txt").write_text("ball\n", encoding="utf-8")
    preset = tmp_path / "ball.toml"
    preset.write_text(
        'encoder = "clip-mini"\n[[stages]]\nstage = "match_vocabulary"\n'
        f'vocabulary = "{tmp_path / "words.txt"}"\ntop_k = 1\n',
        encoding="utf-8",
    )
    plan = tmp_path / "plan.jsonl"
    planned = run("album", folder, "--preset", preset, "--plan", plan)
    assert planned.exit_code == 0, planned.output
    file = tmp_path / "ball.tags"
    options = ("--preset", "mini", "--corrections", plan, "--output", file)
    ended = run("learn", *options)
    assert (ended.exit_code, "review it first" in ended.stderr) == (2, True)
    review = Review(plan, tmp_path / "plan.jsonl.decisions")
    for action, shape in (("confirm", "ellipse"), ("reject", "rectangle")):
        review.decide(Decision(action, "ball", where=Where(text=shape)), review.revision)
    review.close()
    learned = run("learn", *options)
    assert learned.exit_code == 0, learned.output
    assert learned.stdout.startswith("ball\t16 photographs\tAP ")
    assert LearnedKeywords.load(file).photographs == 32


@pytest.mark.slow
def test_a_tag_of_another_stage_falls_where_people_took_it_out_of_a_plan(run, photos, tmp_path):
    """Nobody gave a keyword: the words of a vocabulary are all that is known, and a person edits the plan."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for path in photos.glob("*.jpg"):
        (folder / path.name).write_bytes(path.read_bytes())
    (tmp_path / "words.txt").write_text("ball\nsquare\n", encoding="utf-8")
    stages = (
        'encoder = "clip-mini"\n[[stages]]\nstage = "match_vocabulary"\n'
        f'vocabulary = "{tmp_path / "words.txt"}"\ntop_k = 2\n'
    )
    preset, plan, file = tmp_path / "words.toml", tmp_path / "plan.jsonl", tmp_path / "words.tags"
    preset.write_text(stages, encoding="utf-8")
    assert run("album", folder, "--preset", preset, "--plan", plan).exit_code == 0
    heading, *rows = map(json.loads, plan.read_text(encoding="utf-8").splitlines())
    for row in rows:
        kept = {"ball"} if "ellipse" in row["file"] else set()
        row["tags"] = [tag for tag in row["tags"] if tag["text"] in kept]
    plan.write_text("".join(json.dumps(row) + "\n" for row in (heading, *rows)), encoding="utf-8")
    learned = run("learn", "--preset", "mini", "--corrections", plan, "--output", file)
    assert learned.exit_code == 0, learned.output
    assert "no longer proposed, since people took them out of most photographs: square" in learned.stderr
    assert LearnedKeywords.load(file).others == ("ball",)
    preset.write_text(f'{stages}[[stages]]\nstage = "suggest_keywords"\nkeywords = "{file}"\n')
    for colour, shape, words in (("red", "ellipse", ["ball"]), ("blue", "rectangle", [])):
        picture(tmp_path / "new.jpg", colour, shape, 99)
        tagged = run("tag", "--preset", preset, "--format", "jsonl", tmp_path / "new.jpg")
        assert [tag["text"] for tag in json.loads(tagged.stdout)["tags"]] == words


def test_an_output_that_cannot_be_written_is_refused_before_the_work(run, tmp_path):
    ended = run("learn", tmp_path / "missing", "--preset", "mini", "--output", tmp_path / "gone" / "a.tags")
    assert ended.exit_code == 2
    assert "there is no folder" in ended.stderr
    assert "gone" in ended.stderr


@pytest.fixture
def index(tmp_path):
    """An index of one photograph, which has the keyword ``Ball``."""
    encoder, _ = _encoder("mini", "cpu")
    photo = tmp_path / "indexed" / "a.jpg"
    picture(photo, "red", "ellipse", 0)
    sidecar(photo, "Ball")
    with (
        autotag.Pipeline([EmbedImages()], encoder=encoder) as pipeline,
        Index.open(tmp_path / "a.db") as made,
    ):
        made.add([pipeline(photo)])
    return tmp_path / "a.db"


@pytest.mark.slow
def test_an_index_adds_its_keywords_to_corrections_and_not_to_photos_that_are_named(run, index, tmp_path):
    for number in (1, 2):
        picture(tmp_path / "more" / f"{number}.jpg", "red", "ellipse", number)
    command = ("learn", "--preset", "mini", "--index", index, "--output", tmp_path / "none.tags")
    refused = run(*command, tmp_path / "more")
    assert (refused.exit_code, "no photograph has a keyword" in refused.stderr) == (2, True)
    sidecar(tmp_path / "more" / "1.jpg", "Ball")
    for folders, count in (
        ((), 1),
        (("--corrections", tmp_path / "more"), 2),
        (("--corrections", tmp_path / "indexed"), 1),
        ((tmp_path / "more",), 1),
    ):
        ended = run(*command, *folders)
        assert f"not learned: Ball: it has {count} of the 8 photographs" in ended.stderr, folders


def test_a_photograph_that_is_named_twice_counts_once(run, tmp_path, monkeypatch):
    picture(tmp_path / "a.jpg", "red", "ellipse", 0)
    sidecar(tmp_path / "a.jpg", "Ball")
    monkeypatch.chdir(tmp_path)
    ended = run("learn", "a.jpg", tmp_path, "--preset", "mini", "--output", "none.tags")
    assert "not learned: Ball: it has 1 of the 8 photographs" in ended.stderr


def test_a_photograph_in_a_table_and_in_a_folder_counts_once_with_both_keywords(run, tmp_path):
    for number in range(2):
        picture(tmp_path / f"{number}.jpg", "red", "ellipse", number)
        sidecar(tmp_path / f"{number}.jpg", "Ball")
    table = tmp_path / "keywords.csv"
    table.write_text("image,tags\n0.jpg,Ball; Toy\n1.jpg,Ball\n")
    for options in ((table, tmp_path), (table, "--corrections", tmp_path)):
        ended = run("learn", *options, "--preset", "mini", "--output", "none.tags")
        assert "not learned: Ball: it has 2 of the 8 photographs" in ended.stderr
        assert "not learned: Toy: it has 1 of the 8 photographs" in ended.stderr


@pytest.mark.slow
def test_the_path_of_a_local_encoder_is_not_kept(tmp_path):
    bundled = Path(autotag.__file__).parent / "data" / "models" / "clip-mini"
    folder = shutil.copytree(bundled, tmp_path / "mine")
    preset = tmp_path / "mine.toml"
    for encoder, kept in ((folder, ""), (f"open_clip:{folder}", ""), (bundled, "clip-mini")):
        preset.write_text(f'encoder = "{encoder}"\n[[stages]]\nstage = "embed_images"\n')
        assert _encoder(str(preset), "cpu")[1] == kept
    assert _encoder("mini", "cpu")[1] == "clip-mini"
