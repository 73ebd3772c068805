"""Pipelines as folders and on the hub."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import autotag
from autotag.errors import ConfigError, ModelUnavailableError
from autotag.models.names import parse_name
from autotag.pipeline.presets import is_preset
from autotag.relevance.learned_keywords import LearnedKeyword, LearnedKeywords
from autotag.stages import CaptionImages, FilterTags, MatchVocabulary, MergeTags, NameTags, SuggestKeywords
from autotag.testing import FakeEncoder

DATA = Path(autotag.__file__).parent / "data" / "models"
EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "cat.jpg"


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    file = tmp_path / "pets.txt"
    file.write_text("cat\ndog\nparrot\n")
    return file


def pipeline_of(labels: Path, encoder: str = "clip-mini") -> autotag.Pipeline:
    return autotag.Pipeline(
        [
            MatchVocabulary(labels, top_k=2),
            MergeTags(vocabulary=None),
            FilterTags(score="cosine", threshold=0.2),
        ],
        encoder=encoder,
        device="cpu",
    )


@pytest.mark.slow
def test_a_saved_pipeline_gives_the_same_result_after_it_moved_and_its_files_are_gone(
    tmp_path: Path, labels: Path
) -> None:
    encoder = tmp_path / "mine"
    shutil.copytree(next(path for path in DATA.iterdir() if path.name == "clip-mini"), encoder)
    pipeline = pipeline_of(labels, str(encoder))
    saved = pipeline.save(tmp_path / "tagger")
    before = pipeline(EXAMPLE)
    labels.unlink()
    shutil.rmtree(encoder)
    again = autotag.Pipeline.from_pretrained(saved.rename(tmp_path / "elsewhere"))
    assert again(EXAMPLE) == before
    assert again["filter_tags"] == pipeline["filter_tags"]
    assert again.device == "cpu"
    assert str(tmp_path / "mine") not in (tmp_path / "elsewhere" / "autotag.toml").read_text()
    assert 'from_pretrained("tagger")' in (tmp_path / "elsewhere" / "README.md").read_text()


def test_bundled_names_stay_names_and_a_saved_pipeline_can_be_saved_again(
    tmp_path: Path, labels: Path
) -> None:
    saved = autotag.Pipeline.from_pretrained(autotag.load("mini").save(tmp_path / "one"))
    assert saved.to_config() == autotag.load("mini").to_config()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["README.md", "autotag.toml"]
    first = autotag.Pipeline.from_pretrained(pipeline_of(labels).save(tmp_path / "two"))
    assert autotag.Pipeline.from_pretrained(first.save(tmp_path / "three"))["match_vocabulary"].top_k == 2


def mini_copy(folder: Path) -> Path:
    shutil.copytree(DATA / "clip-mini", folder)
    return folder


@pytest.mark.parametrize("name", ["mine", "hf:mine", "~/mine", "hf:~/mine", "link", "hf:link"])
def test_a_local_model_is_copied_however_its_folder_is_written(
    tmp_path: Path, labels: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "link").symlink_to(mini_copy(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    saved = pipeline_of(labels, name).save(tmp_path / "tagger")
    shutil.rmtree(tmp_path / "mine")
    factory = "hf:" if name.startswith("hf:") else ""
    assert f'encoder = "{factory}{{here}}/models/' in (saved / "autotag.toml").read_text()
    assert autotag.Pipeline.from_pretrained(saved).to_config()["encoder"].startswith(f"{factory}{saved}")


def test_the_folder_of_a_bundled_model_becomes_its_name(tmp_path: Path, labels: Path) -> None:
    saved = pipeline_of(labels, str(DATA / "clip-mini")).save(tmp_path / "tagger")
    assert 'encoder = "clip-mini"' in (saved / "autotag.toml").read_text()


def test_a_file_of_learned_keywords_is_copied(tmp_path: Path) -> None:
    file = tmp_path / "family.tags"
    LearnedKeywords(
        encoder="fake",
        photographs=30,
        keywords=(LearnedKeyword(("beach",), 9, 0.7, 0.5, 0.9, 0.5),),
        weights=np.zeros((1, 65), dtype=np.float32),
        biases=np.zeros(1, dtype=np.float32),
        declined_vectors=np.zeros((0, 65), dtype=np.float32),
        declined_keywords=np.zeros(0, dtype=np.int64),
    ).save(file)
    saved = autotag.Pipeline([SuggestKeywords(file)], encoder="clip-mini").save(tmp_path / "tagger")
    file.unlink()
    assert str(file) not in (saved / "autotag.toml").read_text()
    stage = autotag.Pipeline.from_pretrained(saved)["suggest_keywords"]
    assert stage.keywords.is_relative_to(saved)


@pytest.mark.parametrize("stages", ['stages = "merge_tags"', "stages = [3]", 'stages = ["merge_tags"]', ""])
def test_malformed_stages_are_refused(tmp_path: Path, stages: str) -> None:
    (tmp_path / "autotag.toml").write_text(stages)
    with pytest.raises(ConfigError, match="needs stages: an array of tables"):
        autotag.Pipeline.from_pretrained(tmp_path)


def test_what_cannot_be_saved_is_refused_and_leaves_nothing(tmp_path: Path, labels: Path) -> None:
    there = set(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="not an empty folder"):
        pipeline_of(labels).save(labels)
    with pytest.raises(ConfigError, match="larger than 1e-06 MB"):
        pipeline_of(labels).save(tmp_path / "new", largest=1)
    with pytest.raises(ConfigError, match="is an object"):
        autotag.Pipeline([MatchVocabulary(("cat",))], encoder=FakeEncoder()).save(tmp_path / "new")
    assert set(tmp_path.iterdir()) == there


def test_a_label_is_not_taken_for_the_file_of_that_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "pup"):
        Path(name).write_text("a secret")
    for labels in (("cat", "{here}/dog"), {"dog": ("pup", "{here}/hound"), "cat": ()}):
        saved = autotag.Pipeline([MatchVocabulary(labels)], encoder="clip-mini").save(tmp_path / "saved")
        assert {file.name for file in saved.iterdir()} == {"autotag.toml", "README.md"}
        again = autotag.Pipeline.from_pretrained(saved)
        assert again["match_vocabulary"] == MatchVocabulary(labels)
        shutil.rmtree(saved)


def test_every_file_of_an_option_that_takes_several_is_copied(tmp_path: Path, labels: Path) -> None:
    stages = [MatchVocabulary("things"), NameTags("de", vocabularies=(str(labels), "things"))]
    saved = autotag.Pipeline(stages, encoder="clip-mini").save(tmp_path / "saved")
    labels.unlink()
    again = autotag.Pipeline.from_pretrained(saved)
    assert [Path(one).name for one in again["name_tags"].vocabularies] == ["0-pets.txt", "things"]


def test_a_folder_that_would_run_code_or_leave_itself_is_refused(tmp_path: Path, labels: Path) -> None:
    file = pipeline_of(labels).save(tmp_path / "tagger") / "autotag.toml"
    whole = file.read_text()
    file.write_text(whole.replace('"merge_tags"', '"os:getcwd"'))
    with pytest.raises(ConfigError, match=r"'os:getcwd', which would import code.*trust_code=True"):
        autotag.Pipeline.from_pretrained(tmp_path / "tagger")
    file.write_text(whole.replace("{here}/vocabularies/", "{here}/../"))
    with pytest.raises(ConfigError, match="leads out of the folder"):
        autotag.Pipeline.from_pretrained(tmp_path / "tagger")
    file.unlink()
    with pytest.raises(ConfigError, match=r"has no autotag\.toml"):
        autotag.Pipeline.from_pretrained(tmp_path / "tagger")


@pytest.mark.slow
def test_a_pipeline_of_the_hub_is_downloaded(local_hub, tmp_path: Path, labels: Path) -> None:
    saved = pipeline_of(labels).save(tmp_path / "tagger")
    files = {
        path.relative_to(saved).as_posix(): path.read_bytes() for path in saved.rglob("*") if path.is_file()
    }
    local_hub.files["me/tagger"] = files
    pipeline = autotag.Pipeline.from_pretrained("me/tagger")
    assert pipeline(EXAMPLE) == pipeline_of(labels)(EXAMPLE)
    with pytest.raises(ModelUnavailableError, match="'me/other' is neither a folder nor a pipeline"):
        autotag.Pipeline.from_pretrained("me/other")


class FakeHfApi:
    """The hub's API at the seam: keeps what is uploaded."""

    calls: list[tuple[str, object]] = []  # noqa: RUF012  one list for the test to read

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append(("create", (repository, private, exist_ok)))

    def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
        content = {path.name: path.read_text() for path in Path(folder_path).iterdir() if path.is_file()}
        self.calls.append(("upload", (repo_id, content, commit_message)))
        return SimpleNamespace(commit_url=f"https://example.org/{repo_id}/commit/1")


def test_push_to_hub_uploads_the_saved_folder_with_its_card(monkeypatch, labels: Path) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHfApi)
    monkeypatch.setattr(FakeHfApi, "calls", [])
    url = pipeline_of(labels).push_to_hub("me/my-tagger", private=True, message="first")
    assert url == "https://example.org/me/my-tagger/commit/1"
    (_, created), (_, (repository, content, message)) = FakeHfApi.calls
    assert (created, repository, message) == (("me/my-tagger", True, True), "me/my-tagger", "first")
    assert 'from_pretrained("me/my-tagger")' in content["README.md"]
    assert "{here}/vocabularies/0-pets.txt" in content["autotag.toml"]


def test_a_saved_pipeline_is_a_preset(tmp_path: Path, labels: Path) -> None:
    saved = pipeline_of(labels).save(tmp_path / "tagger")
    labels.unlink()
    again = autotag.Pipeline.from_pretrained(saved).to_config()
    for preset in (saved, saved / "autotag.toml", str(saved)):
        assert autotag.load(preset).to_config() == again
        assert is_preset(str(preset))
    assert autotag.load(saved, match_vocabulary={"top_k": 1})["match_vocabulary"].top_k == 1


def test_a_saved_pipeline_as_a_preset_runs_no_code(tmp_path: Path) -> None:
    (tmp_path / "autotag.toml").write_text('[[stages]]\nstage = "os:getcwd"\n')
    with pytest.raises(ConfigError, match="would import code"):
        autotag.load(tmp_path)


def test_a_copied_model_is_named_after_its_folder_and_not_by_a_path_of_the_machine(tmp_path: Path) -> None:
    shutil.copytree(DATA / "blip-mini", tmp_path / "mine")
    saved = autotag.Pipeline([CaptionImages(str(tmp_path / "mine"))], encoder=None).save(tmp_path / "tagger")
    stage = autotag.Pipeline.from_pretrained(saved)["caption_images"]
    assert parse_name(stage.model, "captioner").name == "0-mine"
    assert parse_name(str(tmp_path / "mine"), "captioner").name == str(tmp_path / "mine")
