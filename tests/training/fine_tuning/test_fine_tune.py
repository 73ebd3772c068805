from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autotag.errors import ConfigError
from autotag.evaluation.datasets import EvaluationSet, Example
from autotag.models.pool import ModelPool
from autotag.training.fine_tuning import (
    FineTuningPlan,
    Lora,
    fine_tune_captioner,
    fine_tune_encoder,
)
from autotag.training.fine_tuning import encoder as encoder_tuning
from autotag.training.fine_tuning.figures import encoder_figures
from autotag.training.fine_tuning.fine_tune import Mixture, _nothing_gained, best_share
from autotag.training.fine_tuning.photographs import Batches, split_photographs
from autotag.training.fine_tuning.plan import choose_precision

PLAN = FineTuningPlan(steps=8, batch_size=4, learning_rate=1e-2, device="cpu", checkpoint_every=0)
TUNERS = {"captioner": (fine_tune_captioner, "blip"), "encoder": (fine_tune_encoder, "clip")}


def losses(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "training" / "losses.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def killed_at(last: int) -> Callable[[int, int, float], None]:
    def on_step(step: int, steps: int, loss: float) -> None:
        if step == last:
            raise KeyboardInterrupt

    return on_step


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["encoder", "captioner"])
def test_an_interrupted_run_resumes_with_the_losses_and_weights_of_an_unbroken_one(
    kind: str, drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    tune, model = TUNERS[kind]
    plan = replace(PLAN, accumulate=2)
    arguments: Any = (drawings(24), str(tiny_folder(model)))
    unbroken = tune(*arguments, tmp_path / "unbroken", plan=plan)
    for last in (3, 5):
        with pytest.raises(KeyboardInterrupt):
            tune(*arguments, tmp_path / "broken", plan=plan, on_step=killed_at(last))
    resumed: list[int] = []
    broken = tune(
        *arguments,
        tmp_path / "broken",
        plan=replace(plan, workers=1),
        on_step=lambda step, *_: resumed.append(step),
    )
    assert resumed == [6, 7, 8]
    assert losses(broken.folder) == losses(unbroken.folder)
    assert [row["step"] for row in losses(broken.folder)] == list(range(1, 9))
    [one, other] = [load_file(folder / "model.safetensors") for folder in (broken.folder, unbroken.folder)]
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not (broken.folder / "training" / "state.pt").exists()


def test_steps_after_the_last_saved_state_are_logged_once(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    rarely = replace(PLAN, checkpoint_every=3600)  # so nothing is saved before the end
    arguments: Any = (drawings(24), str(tiny_folder("clip")), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        fine_tune_encoder(*arguments, plan=rarely, on_step=killed_at(4))
    assert len(losses(tmp_path / "out")) == 4
    fine_tune_encoder(*arguments, plan=rarely)
    assert [row["step"] for row in losses(tmp_path / "out")] == list(range(1, 9))
    board = EventAccumulator(str(tmp_path / "out" / "training"))
    board.Reload()
    assert {"train/loss", "train/learning_rate"} <= set(board.Tags()["scalars"])
    assert [event.step for event in board.Scalars("train/loss")] == list(range(1, 9))


@pytest.mark.slow
def test_a_run_that_is_killed_resumes(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for one in drawings(24).examples:
        assert isinstance(one.image, bytes)
        (data / one.id).write_bytes(one.image)
        (data / one.id).with_suffix(".txt").write_text(one.texts[0])
    command = [sys.executable, "-c", "from autotag.cli.main import main; main()", "train", "captioner", data]
    command += [
        "--from",
        tiny_folder("blip"),
        "--batch-size",
        "4",
        "--device",
        "cpu",
        "--checkpoint-every",
        "0",
    ]
    command += ["--steps", "12", "--output"]
    subprocess.run([*command, tmp_path / "unbroken"], check=True, timeout=600)
    process = subprocess.Popen([*command, tmp_path / "killed"])
    log = tmp_path / "killed" / "training" / "losses.jsonl"
    ends = time.monotonic() + 300
    while not (log.is_file() and log.read_text().count("\n") > 4) and time.monotonic() < ends:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    subprocess.run([*command, tmp_path / "killed"], check=True, timeout=600)
    assert losses(tmp_path / "killed") == losses(tmp_path / "unbroken")


def test_a_run_is_not_resumed_with_other_settings_or_data(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    model = str(tiny_folder("blip"))
    with pytest.raises(KeyboardInterrupt):
        fine_tune_captioner(drawings(24), model, tmp_path / "out", plan=PLAN, on_step=killed_at(2))
    with pytest.raises(
        ConfigError, match="unfinished run that was started otherwise .batch_size: 4 there, 2 now"
    ):
        fine_tune_captioner(drawings(24), model, tmp_path / "out", plan=replace(PLAN, batch_size=2))
    with pytest.raises(ConfigError, match="rank: 16 there, 4 now"):
        fine_tune_captioner(drawings(24), model, tmp_path / "out", plan=PLAN, lora=Lora(rank=4))
    with pytest.raises(ConfigError, match="data: "):
        fine_tune_captioner(drawings(26), model, tmp_path / "out", plan=PLAN)


def test_a_folder_with_something_else_in_it_is_refused(
    drawings: Callable[..., EvaluationSet], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("dear")
    with pytest.raises(ConfigError, match="is not empty"):
        fine_tune_captioner(drawings(24), "blip-mini", tmp_path / "out", plan=PLAN)
    with pytest.raises(ConfigError, match="is a file"):
        fine_tune_encoder(drawings(24), "clip-mini", tmp_path / "out" / "letter.txt", plan=PLAN)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["letter.txt"]


@pytest.mark.slow
def test_an_encoder_is_mixed_by_photographs_to_keep_and_its_card_tells_all(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    data, kept = drawings(40, tags=True), drawings(24, name="/somewhere/kept")
    plan = replace(PLAN, steps=30, learning_rate=2e-3, batch_size=8, may_lose=1.0, held_out=0.3)
    model = str(tiny_folder("clip"))
    done = fine_tune_encoder(data, model, tmp_path / "out", plan=plan, keep=[kept])
    card = json.loads((done.folder / "fine_tuning.json").read_text())
    assert done.share in {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0}
    assert card["share"] == done.share
    assert [one["share"] for one in card["mixtures"]] == [0.0, *(number / 10 for number in range(1, 11))]
    assert card["data"]["photographs"] == 28
    assert card["data"]["held_out"] == 12
    assert re.fullmatch("[0-9a-f]{64}", card["data"]["sha256"])
    assert card["training"]["steps"] == 30
    assert card["training"]["precision"] == "float32"
    assert set(card["figures"]) == {"held out", "kept"}
    assert card["figures"]["held out"]["before"] == done.before["held out"]
    assert card["data"]["rehearsed"] == 12
    loaded = ModelPool(device="cpu").encoder(str(done.folder))
    judge = split_photographs(kept, held_out=0.5, workers=1).held_out
    assert encoder_figures(loaded, judge) == done.after["kept"]
    written = (done.folder / "README.md").read_text()
    assert "| held out | accuracy |" in written
    assert str(tmp_path) not in written + json.dumps(card)
    with pytest.raises(ConfigError, match="holds a finished model"):
        fine_tune_encoder(data, model, done.folder, plan=plan)


def test_nothing_is_written_where_nothing_is_gained_and_more_loss_goes_on_from_there(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    data = drawings(24)
    plan = replace(PLAN, learning_rate=1e-9, steps=2)  # learns nothing
    arguments: Any = (data, str(tiny_folder("clip")), tmp_path / "out")
    keep = [replace(data, name="same")]
    shares: list[float] = []
    with pytest.raises(
        ConfigError, match=r"no share .* is better on the held-out photographs, where .*held-out"
    ):
        fine_tune_encoder(
            *arguments, plan=plan, keep=keep, on_share=lambda mixture: shares.append(mixture.share)
        )
    assert shares == [0, *(number / 10 for number in range(1, 11))]
    assert not (tmp_path / "out" / "model.safetensors").exists()
    again: list[int] = []
    done = fine_tune_encoder(
        *arguments, plan=replace(plan, share=0.5), keep=keep, on_step=lambda step, *_: again.append(step)
    )
    assert again == []
    assert done.share == 0.5


def test_the_message_says_which_loss_takes_the_cheapest_gain_and_only_where_there_is_one() -> None:
    mixtures = [
        Mixture(share, {"held out": {"cider_d": held}, "kept": {"cider_d": kept, "rouge_l": 0.4}})
        for share, held, kept in (
            (0, 0.582, 0.694),
            (0.25, 0.605, 0.6502),
            (0.5, 0.7, 0.6),
            (0.75, 0.5, 0.694),
        )
    ]
    message = _nothing_gained(mixtures, 0.01)
    assert "Share 0.25 brings 0.582 to 0.605: --may-lose 0.044 " in message
    assert best_share(mixtures, may_lose=0.01) == 0
    assert best_share(mixtures, may_lose=0.044) == 0.25
    assert "--may-lose" not in _nothing_gained([mixtures[0], mixtures[3]], 0.01)


def test_the_best_share_loses_little_of_any_figure_and_is_the_smallest_of_equals() -> None:
    rows = [
        Mixture(
            share,
            {"held out": {"accuracy": held}, "kept": {"image_found_at_1": first, "image_found_at_5": five}},
        )
        for share, held, first, five in (
            (0, 0.1, 0.8, 0.9),
            (0.3, 0.6, 0.8, 0.9),
            (0.5, 0.6, 0.795, 0.9),
            (0.8, 0.7, 0.8, 0.85),
            (1, 0.9, 0.7, 0.8),
        )
    ]
    assert best_share(rows, may_lose=0.01) == 0.3
    assert best_share(rows, may_lose=0.06) == 0.8
    assert best_share(rows, may_lose=0.2) == 1
    assert best_share(rows, may_lose=0.05) == 0.8  # 0.9 - 0.85 is 0.05000000000000004
    assert best_share([rows[0], replace(rows[0], share=1)], may_lose=0.2) == 0


def test_a_loss_that_is_not_finite_ends_the_training(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="the training diverged. Lower the learning rate"):
        fine_tune_encoder(
            drawings(24), str(tiny_folder("clip")), tmp_path / "out", plan=replace(PLAN, learning_rate=1e30)
        )


def test_too_little_memory_is_told_with_the_way_out(
    drawings: Callable[..., EvaluationSet],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loss(*_: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("autotag.training.fine_tuning.encoder.ContrastiveEncoder.loss", loss)
    with pytest.raises(ConfigError, match="does not fit in the memory of the device.*--batch-size"):
        fine_tune_encoder(drawings(24), str(tiny_folder("clip")), tmp_path / "out", plan=PLAN)


def test_too_little_data_is_refused(drawings: Callable[..., EvaluationSet], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has 19 photographs to fine-tune on; at least 20 are needed"):
        fine_tune_captioner(drawings(19), "blip-mini", tmp_path / "out", plan=PLAN)
    copies = drawings(1).examples * 30
    with pytest.raises(ConfigError, match="most are copies of one"):
        fine_tune_captioner(EvaluationSet("copies", copies), "blip-mini", tmp_path / "out", plan=PLAN)


def test_photographs_that_cannot_be_read_are_left_out_with_a_warning(
    drawings: Callable[..., EvaluationSet], caplog: pytest.LogCaptureFixture
) -> None:
    data = drawings(24)
    broken = replace(data, examples=(*data.examples, Example("broken.png", b"\x89PNG nothing", ("a dog",))))
    split = split_photographs(broken, held_out=0.1, workers=2)
    assert split.unreadable == 1
    assert "1 photographs cannot be read and are left out: 'broken.png'" in caplog.text
    assert split.sha256 == split_photographs(data, held_out=0.1, workers=1).sha256


def test_no_copy_of_a_trained_photograph_is_held_out(drawings: Callable[..., EvaluationSet]) -> None:
    data = drawings(30)
    copies = tuple(replace(one, id=f"copy of {one.id}") for one in data.examples)
    split = split_photographs(replace(data, examples=data.examples + copies), held_out=0.25, workers=2)
    assert len(split.held_out.examples) >= 15
    assert not {one.image for one in split.held_out.examples} & {one.image for one in split.train}
    moved = split_photographs(
        replace(data, examples=(copies + data.examples)[::-1]), held_out=0.25, workers=2
    )
    assert moved == split


def test_the_hash_of_the_data_knows_its_captions(drawings: Callable[..., EvaluationSet]) -> None:
    data = drawings(24)
    changed = replace(data.examples[3], texts=("another caption",))
    other = replace(data, examples=(*data.examples[:3], changed, *data.examples[4:]))
    hashes = {split_photographs(one, held_out=0.1, workers=1).sha256 for one in (data, other, data)}
    assert len(hashes) == 2


def test_batches_use_each_photograph_once_per_pass_and_depend_on_their_number_only(
    drawings: Callable[..., EvaluationSet],
) -> None:
    examples = drawings(12).examples
    made = Batches(
        examples, 4, lambda images: {"sizes": torch.tensor([one.size for one in images])}, 32, 0.8, 2, 0
    )
    every = list(made.numbered(0, 9))
    for start in (0, 3, 6):
        one_pass = [one.id for batch in every[start : start + 3] for one in batch.examples]
        assert sorted(one_pass) == sorted(one.id for one in examples)
    [resumed] = made.numbered(4, 5)
    assert resumed.examples == every[4].examples
    assert torch.equal(resumed.images["sizes"], every[4].images["sizes"])
    sizes = torch.cat([batch.images["sizes"] for batch in every])
    assert sizes.min() >= 32
    assert sizes.min() < sizes.max() <= 40


def test_a_part_of_each_batch_is_rehearsed(drawings: Callable[..., EvaluationSet]) -> None:
    own, others = drawings(12).examples, drawings(20, tags=True).examples
    made = Batches(own, 4, lambda images: {}, 32, 1.0, 2, 0, others, 1)
    every = list(made.numbered(0, 20))
    assert all([bool(one.tags) for one in batch.examples] == [False, False, False, True] for batch in every)
    assert sorted(batch.examples[-1].id for batch in every) == sorted(one.id for one in others)
    assert all(
        text in {*one.texts, *one.tags}
        for batch in every
        for text, one in zip(batch.texts, batch.examples, strict=True)
    )


def test_precisions_that_a_device_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("auto", "cpu") == "float32"
    with pytest.raises(ConfigError, match="'float16' needs a GPU"):
        choose_precision("float16", "cpu")
    monkeypatch.setattr("autotag.models.loading.processor.calculates_in", lambda _: False)
    with pytest.raises(ConfigError, match="only emulates"):
        choose_precision("bfloat16", "cpu")
    for supported, chosen in ((True, "bfloat16"), (False, "float16")):
        monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation, s=supported: s)
        assert choose_precision("auto", "cuda:1") == chosen


@pytest.mark.slow
def test_bfloat16_trains(
    drawings: Callable[..., EvaluationSet],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("autotag.models.loading.processor.calculates_in", lambda _: True)
    plan = replace(PLAN, precision="bfloat16", steps=3)
    for kind, (tune, model) in TUNERS.items():
        done = tune(drawings(24), str(tiny_folder(model)), tmp_path / kind, plan=plan)
        exact = tune(
            drawings(24), str(tiny_folder(model)), tmp_path / f"{kind} exact", plan=replace(PLAN, steps=3)
        )
        pairs = list(zip(losses(done.folder), losses(exact.folder), strict=True))
        assert any(one["loss"] != other["loss"] for one, other in pairs)
        assert all(one["loss"] == pytest.approx(other["loss"], rel=0.1) for one, other in pairs)


def test_bad_settings_are_refused() -> None:
    wrong: list[dict[str, Any]] = [
        {"epochs": 0},
        {"steps": 0},
        {"batch_size": 0},
        {"learning_rate": 0},
        {"held_out": 0.9},
        {"smallest_crop": 0},
        {"share": 0},
        {"device": "gpu"},
        {"precision": "int8"},
    ]
    for one in wrong:
        with pytest.raises(ConfigError, match=next(iter(one))):
            FineTuningPlan(**one)


def test_epochs_are_counted_in_updates() -> None:
    plan = FineTuningPlan(epochs=3, batch_size=4, accumulate=2)
    assert plan.steps_for(16, 4) == 6
    assert plan.steps_for(17, 4) == 7
    assert plan.steps_for(1, 4) == 1


def test_a_batch_larger_than_the_data_takes_no_epoch_away(
    drawings: Callable[..., EvaluationSet], tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    plan = replace(PLAN, steps=None, epochs=3, batch_size=64)
    done = fine_tune_encoder(drawings(24), str(tiny_folder("clip")), tmp_path / "out", plan=plan)
    assert [row["step"] for row in losses(done.folder)] == [1, 2, 3]
    card = json.loads((done.folder / "fine_tuning.json").read_text())
    assert card["training"]["learning_rate"] == plan.learning_rate  # though no step of so few is at its peak


def test_an_output_folder_may_be_called_like_a_model_of_the_catalog(
    drawings: Callable[..., EvaluationSet],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    data = drawings(24)
    done = fine_tune_encoder(data, str(tiny_folder("clip")), Path("clip-mini"), plan=PLAN)
    judge = split_photographs(data, held_out=PLAN.held_out, workers=1).held_out
    loaded = ModelPool(device="cpu").encoder(str(done.folder))
    assert done.folder == tmp_path / "clip-mini"
    assert done.after["held out"] == encoder_figures(loaded, judge)


def test_batches_of_one_photograph_are_refused_where_they_would_do_nothing(
    drawings: Callable[..., EvaluationSet], tmp_path: Path
) -> None:
    plan = replace(PLAN, batch_size=1)
    with pytest.raises(ConfigError, match="an encoder learns from the contrast"):
        fine_tune_encoder(drawings(24), "clip-mini", tmp_path / "out", plan=plan)
    with pytest.raises(ConfigError, match="photographs to rehearse has 2 or more.*--rehearse 0"):
        fine_tune_captioner(drawings(24), "blip-mini", tmp_path / "out", plan=plan, keep=[drawings(24)])
    assert not (tmp_path / "out").exists()


def test_a_run_is_not_resumed_in_another_precision(
    drawings: Callable[..., EvaluationSet],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments: Any = (drawings(24), str(tiny_folder("clip")), tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        fine_tune_encoder(*arguments, plan=PLAN, on_step=killed_at(2))
    monkeypatch.setattr(
        "autotag.training.fine_tuning.fine_tune.choose_precision", lambda *_: "bfloat16"
    )  # what "auto" is on a GPU
    with pytest.raises(ConfigError, match="precision: 'float32' there, 'bfloat16' now"):
        fine_tune_encoder(*arguments, plan=PLAN)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), SafetensorError("No space left")])
def test_a_full_disk_is_told_and_the_same_command_goes_on(
    error: Exception,
    drawings: Callable[..., EvaluationSet],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments: Any = (drawings(24), str(tiny_folder("clip")), tmp_path / "out")
    steps: list[int] = []

    def full(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(encoder_tuning, "save_transformers", full)
        with pytest.raises(ConfigError, match="No space left.*run the same command again"):
            fine_tune_encoder(*arguments, plan=PLAN, on_step=lambda step, *_: steps.append(step))
    done = fine_tune_encoder(*arguments, plan=PLAN, on_step=lambda step, *_: steps.append(step))
    assert steps == list(range(1, 9)), "no step is done twice"
    assert (done.folder / "model.safetensors").is_file()


def test_sets_to_keep_with_one_name_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    sets = [
        EvaluationSet(f"{place}/val.csv", (Example("1", tmp_path / "missing.jpg", ("a",)),)) for place in "ab"
    ]
    with pytest.raises(ConfigError, match=r"two sets of photographs to keep are called 'val.csv'"):
        fine_tune_encoder(sets[0], "clip-mini", tmp_path / "out", plan=PLAN, keep=sets)
    assert not (tmp_path / "out").exists()
