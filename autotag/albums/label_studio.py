"""Plans as tasks of Label Studio, and annotations back into a plan.

A task has the photograph's address, and autotag's tags and caption as a prediction that a person corrects.
The JSON is that of Label Studio's import and export; the labelling interface is ``INTERFACE``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from autotag.albums.plan_reader import read_plan
from autotag.errors import ConfigError
from autotag.files.replacing import PartFile
from autotag.metadata.keywords import fold

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autotag.albums.plan import PlannedPhoto

LOCAL_FILES = "/data/local-files/?d="
"""Begin of the addresses of photographs that Label Studio serves from its own disk."""

INTERFACE = """<View>
  <Image name="image" value="$image"/>
  <Choices name="tags" toName="image" choice="multiple" value="$choices"/>
  <TextArea name="more" toName="image" placeholder="More tags, one a line" maxSubmissions="0"/>
  <TextArea name="caption" toName="image" placeholder="Caption" maxSubmissions="1"/>
</View>
"""
"""The labelling interface of a project for these tasks; the choices of each task are its own tags."""

_VERSION = "autotag"


def tasks_of_plan(plan: str | os.PathLike[str], *, prefix: str = LOCAL_FILES) -> list[dict[str, Any]]:
    """Return a plan's photographs as tasks with predictions.

    Args:
        plan: the plan's file, as ``autotag album --plan`` wrote it.
        prefix: what comes before each photograph's path in the album, which is quoted as in a URL.

    Raises:
        ConfigError: the plan cannot be read, or is wrong.
    """
    return [_task(photo, prefix) for photo in read_plan(plan).photos]


def write_tasks(
    plan: str | os.PathLike[str], tasks: str | os.PathLike[str], *, prefix: str = LOCAL_FILES
) -> int:
    """Write a plan's tasks into a new JSON file, and return how many there are.

    Raises:
        ConfigError: the plan is wrong, or the file exists or cannot be written.
    """
    found = tasks_of_plan(plan, prefix=prefix)
    write_new(Path(tasks), json.dumps(found, indent=1) + "\n")
    return len(found)


def plan_from_annotations(
    plan: str | os.PathLike[str], annotated: str | os.PathLike[str], corrected: str | os.PathLike[str]
) -> int:
    """Write a plan with the tags and captions that people chose; return how many photographs it has.

    Photographs without an annotation, and skipped ones, are left out of the new plan, so that
    ``autotag apply`` does not touch them. Of several annotations the one that was changed last counts. Tags
    that were kept keep their scores.

    Args:
        plan: the plan that the tasks were made of.
        annotated: Label Studio's export in the format JSON.
        corrected: the new plan's file.

    Raises:
        ConfigError: a file cannot be read, the annotations are of photographs that the plan does not have,
            or the new plan exists.
    """
    photos = {photo.file: photo for photo in read_plan(plan).photos}
    chosen = _annotations(Path(annotated))
    for file in chosen:
        if file not in photos:
            raise ConfigError(f"{os.fspath(annotated)!r} has the photograph {file!r}, which the plan lacks.")
    header, *lines = [
        line for line in Path(plan).read_text("utf-8", "surrogateescape").split("\n") if line.strip()
    ]
    kept = [header]
    writers = [name for name in json.loads(header)["writers"] if name != "rename"]
    for line in lines:
        row = json.loads(line)
        if row["file"] in chosen:
            kept.append(json.dumps(_corrected(row, chosen[row["file"]], writers), ensure_ascii=False))
    write_new(Path(corrected), "\n".join(kept) + "\n")
    return len(kept) - 1


def _task(photo: PlannedPhoto, prefix: str) -> dict[str, Any]:
    result = photo.result
    tags = list(result.tag_texts)
    answers: list[dict[str, Any]] = [_answer("tags", "choices", {"choices": tags})] if tags else []
    if result.caption:
        answers.append(_answer("caption", "textarea", {"text": [result.caption]}))
    scores = [tag.score for tag in result.tags]
    prediction: dict[str, Any] = {"model_version": _VERSION, "result": answers}
    if scores:
        prediction["score"] = min(max(scores), 1.0)
    data = {
        "image": prefix + quote(photo.file, errors="surrogateescape"),
        "file": photo.file,
        "choices": [{"value": tag} for tag in tags],
    }
    return {"data": data, "predictions": [prediction]}


def _answer(name: str, kind: str, value: Mapping[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "image", "type": kind, "value": dict(value)}


def _annotations(path: Path) -> dict[str, dict[str, list[str]]]:
    """Return the answers for each annotated photograph, by the name of the field.

    Raises:
        ConfigError: the file is not an export of tasks that autotag made.
    """
    try:
        tasks = json.loads(path.read_bytes())
        return {task["data"]["file"]: _answers(task) for task in tasks if _annotated(task)}
    except OSError as error:
        raise ConfigError(f"cannot read {str(path)!r}: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"{str(path)!r} is not an export of Label Studio (format JSON) of tasks of autotag: {error!r}"
        ) from error


def _annotated(task: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the annotations of a task that nobody cancelled, the last one last."""
    done = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
    return sorted(done, key=lambda one: str(one.get("updated_at", "")))


def _answers(task: Mapping[str, Any]) -> dict[str, list[str]]:
    answers: dict[str, list[str]] = {}
    for answer in _annotated(task)[-1]["result"]:
        value = answer["value"]
        answers.setdefault(answer["from_name"], []).extend(_texts(value.get("choices") or value.get("text")))
    return answers


def _texts(value: str | Sequence[str] | None) -> list[str]:
    """Return the texts of an answer; Label Studio exports a single text as it is or in a list."""
    return [value] if isinstance(value, str) else list(value or ())


def _corrected(
    row: Mapping[str, Any], answers: Mapping[str, Sequence[str]], writers: Sequence[str]
) -> dict[str, Any]:
    """Return a plan's line with the answers.

    For a changed line, ``writers`` write, except those left out by the rules: the line names
    only writers that had something to write before. Its prompt, made of the old tags, is cleared.
    """
    known = {(tag if isinstance(tag, str) else tag["text"]): tag for tag in row["tags"]}
    more = (line.strip() for text in answers.get("more", ()) for line in text.splitlines())
    wanted: dict[str, str] = {}
    for text in [*answers.get("tags", ()), *filter(None, more)]:
        wanted.setdefault(fold(text), text)
    tags = [known.get(text, text) for text in wanted.values()]
    caption = " ".join(answers.get("caption", ())).strip()
    if (tags, caption) == (row["tags"], row["caption"]):
        return dict(row)
    left_out = row.get("left_out", ())
    write = dict.fromkeys([*row["write"], *(name for name in writers if name not in left_out)])
    return {**row, "tags": tags, "caption": caption, "prompt": "", "write": list(write)}


def write_new(path: Path, text: str) -> None:
    """Write a new file.

    Raises:
        ConfigError: it exists or cannot be written.
    """
    if path.exists():
        raise ConfigError(f"{str(path)!r} exists already; name another file or delete it.")
    try:
        with PartFile(path.resolve()) as part:
            part.write(text.encode("utf-8", "surrogateescape"))
            part.sync()
            part.place(None)
    except OSError as error:
        raise ConfigError(f"cannot write {str(path)!r}: {error.strerror}.") from error
