"""The output folder of a fine-tuning: what is in it while the training runs, and how a killed run resumes.

While the training runs, the folder holds ``training/`` with the run's facts, its state, a line of JSON for
each step (``losses.jsonl``) and the logs of TensorBoard. The model and its card are written at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from autotag.errors import ConfigError, install_hint
from autotag.files.replacing import appearing

CARD = "fine_tuning.json"
STATE = "training"


@dataclass(frozen=True)
class RunFolder:
    """An output folder that belongs to one run.

    Attributes:
        output: the folder.
    """

    output: Path

    @classmethod
    def begin(cls, output: Path, facts: Mapping[str, Any]) -> RunFolder:
        """Make the folder, or take up the unfinished run in it if it has the same facts.

        Args:
            output: the folder; it may be missing or empty.
            facts: settings, data and model of the run, as JSON can write them.

        Raises:
            ConfigError: the folder holds something else, a finished model, or a run with other facts.
        """
        written: dict[str, Any] = json.loads(json.dumps(facts))
        file = output / STATE / "run.json"
        try:
            check_output(output)
            if file.is_file():
                _check_same(output, json.loads(file.read_text(encoding="utf-8")), written)
            file.parent.mkdir(parents=True, exist_ok=True)
            with appearing(file) as stream:
                stream.write((json.dumps(written, indent=2) + "\n").encode())
        except (OSError, ValueError) as error:
            raise ConfigError(f"output folder {str(output)!r} cannot be used: {error}") from error
        return cls(output)

    @property
    def state(self) -> Path:
        """The file with the state of the training."""
        return self.output / STATE / "state.pt"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Turn an error of the file system in the block into one that says how to go on.

        Raises:
            ConfigError: the disk is full, or a file cannot be read or written for another reason.
        """
        try:
            yield
        except (OSError, SafetensorError) as error:
            raise ConfigError(
                f"the training in {str(self.output)!r} has stopped: {error}. "
                "Make room on the disk or mend what the error names, and run the same command again: "
                "it goes on from the last saved state"
            ) from error

    def losses(self) -> list[dict[str, float]]:
        """Return the logged steps: ``step`` from 1, ``loss`` and ``learning_rate``; a cut line ends them."""
        rows: list[dict[str, float]] = []
        file = self.output / STATE / "losses.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def end(self) -> None:
        """Delete the state, which is not needed any more; the logs stay."""
        self.state.unlink(missing_ok=True)


class StepLog:
    """Write losses as lines of JSON and for TensorBoard.

    A resumed run writes the steps after its state again, so they are dropped from the log first.

    Args:
        folder: of the run.
        done: number of steps in the state that the run resumes from.

    Raises:
        ConfigError: TensorBoard is not installed.
    """

    def __init__(self, folder: RunFolder, done: int) -> None:
        writer = tensorboard_writer()
        kept = [row for row in folder.losses() if row["step"] <= done]
        place = folder.output / STATE
        with appearing(place / "losses.jsonl") as stream:
            stream.write("".join(json.dumps(row) + "\n" for row in kept).encode())
        self._lines = (place / "losses.jsonl").open("a", encoding="utf-8")
        self._board = writer(str(place), purge_step=done + 1)

    def step(self, step: int, loss: float, learning_rate: float) -> None:
        """Write one step, numbered from 1."""
        row = {"step": step, "loss": loss, "learning_rate": learning_rate}
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        self._board.add_scalar("train/loss", loss, step)
        self._board.add_scalar("train/learning_rate", learning_rate, step)

    def close(self) -> None:
        """Close the files."""
        self._lines.close()
        self._board.close()

    def __enter__(self) -> StepLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def tensorboard_writer() -> Any:
    """Return TensorBoard's ``SummaryWriter``.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(f"fine-tuning needs tensorboard: {install_hint('finetune')}") from error
    return SummaryWriter


def check_output(output: Path) -> None:
    """Refuse an output folder that holds anything but an unfinished run.

    Raises:
        ConfigError: it is a file, or holds something else.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {str(output)!r} is a file; name a folder")
    if (output / CARD).is_file():
        raise ConfigError(f"output folder {str(output)!r} holds a finished model; name another one")
    if output.is_dir() and any(output.iterdir()) and not (output / STATE / "run.json").is_file():
        raise ConfigError(f"output folder {str(output)!r} is not empty; name a new one")


def _check_same(output: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    if changed:
        listed = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in changed)
        raise ConfigError(
            f"output folder {str(output)!r} holds an unfinished run that was started otherwise ({listed}). "
            "Start it in the same way to resume it, name another folder, or delete this one"
        )
