"""Hyperparameters of fine-tuning, and the precision that a device computes in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch

from autotag.config.checks import check_choice, check_count, check_number
from autotag.errors import ConfigError
from autotag.models.loading.device import check_placement, choose_dtype

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class FineTuningPlan:
    """Hyperparameters of fine-tuning.

    Attributes:
        epochs: passes over the training photographs; ``steps`` comes before it.
        steps: number of updates of the weights; None for as many as ``epochs`` take.
        batch_size: photographs per batch, at least 1.
        accumulate: batches per update. The contrast of an encoder is within each batch.
        learning_rate: peak learning rate; None for 2e-4 with LoRA and 1e-5 for encoders.
        weight_decay: of AdamW.
        precision: of the forward pass; weights stay in float32. ``"auto"`` is bfloat16 on a GPU that has it,
            else float16 on a GPU, and float32 elsewhere.
        gradient_checkpointing: compute activations twice instead of keeping them, which needs less memory.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:<n>"`` or ``"mps"``.
        held_out: share of the photographs that are not trained on, above 0 and at most 0.5; at least 4.
        smallest_crop: least side of the random crops of photographs, relative to theirs; 1 for no crops.
        rehearse: share of each batch that comes from the photographs to keep, from 0 to 0.75: half of those
            are trained on, the other half judges. 0 trains on none and judges by all.
        share: share of the learned change that is kept (WiSE-FT), from 0 to 1; None to choose it.
        may_lose: how much any figure of photographs to keep may fall below that of the old model; 0.01 is a
            point.
        workers: threads that read photographs.
        checkpoint_every: least number of seconds between two saves of the state.
        seed: for every random choice.

    Raises:
        ConfigError: a value is out of range.
    """

    epochs: int = 5
    steps: int | None = None
    batch_size: int = 16
    accumulate: int = 1
    learning_rate: float | None = None
    weight_decay: float = 0.01
    precision: Precision = "auto"
    gradient_checkpointing: bool = False
    device: str = "auto"
    held_out: float = 0.1
    smallest_crop: float = 0.9
    rehearse: float = 0.25
    share: float | None = None
    may_lose: float = 0.01
    workers: int = 2
    checkpoint_every: float = 120.0
    seed: int = 0

    def __post_init__(self) -> None:
        for option in ("epochs", "batch_size", "accumulate", "workers"):
            check_count(option, getattr(self, option))
        if self.steps is not None:
            check_count("steps", self.steps)
        check_count("seed", self.seed, least=0)
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, least=0, above=True)
        check_number("weight_decay", self.weight_decay, least=0)
        check_choice("precision", self.precision, get_args(Precision))
        check_placement(self.device, "auto")
        check_number("held_out", self.held_out, least=0, most=0.5, above=True)
        check_number("smallest_crop", self.smallest_crop, least=0, most=1, above=True)
        check_number("rehearse", self.rehearse, least=0, most=0.75)
        if self.share is not None:
            check_number("share", self.share, least=0, most=1, above=True)
        check_number("may_lose", self.may_lose, least=0)
        check_number("checkpoint_every", self.checkpoint_every, least=0)

    def steps_for(self, photographs: int, batch_size: int) -> int:
        """Return the number of updates for this number of training photographs, in batches of this size."""
        return self.steps or -(-self.epochs * photographs // (batch_size * self.accumulate))


def choose_precision(precision: Precision, device: str) -> Literal["float32", "bfloat16", "float16"]:
    """Return the precision of the forward pass on a device that is not ``"auto"``.

    Raises:
        ConfigError: the device does not compute in it, or only emulates it.
    """
    if precision == "auto":
        if not device.startswith("cuda"):
            return "float32"
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if precision == "float16" and device == "cpu":
        raise ConfigError("precision 'float16' needs a GPU; on a CPU use 'float32' or 'bfloat16'")
    choose_dtype(precision, device)
    return precision
