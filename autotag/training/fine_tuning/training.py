"""The training loop of fine-tuning: mixed precision, accumulation, and a state from which it resumes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor, nn

from autotag.errors import ConfigError
from autotag.evaluation.datasets import Example
from autotag.training.checkpoints import Checkpoint, Stateful, seeded
from autotag.training.fine_tuning.photographs import Batch, Batches
from autotag.training.fine_tuning.plan import FineTuningPlan, choose_precision
from autotag.training.fine_tuning.run_folder import RunFolder, StepLog
from autotag.training.schedule import adamw, one_cycle, set_learning_rate

OnStep = Callable[[int, int, float], None]
"""Called after a step with its number from 1, the number of all steps, and the loss."""


class Learner(Protocol):
    """A model that is fine-tuned: its parameters that require gradients are trained."""

    learning_rate: float
    shares: tuple[float, ...]
    model: nn.Module

    @property
    def facts(self) -> dict[str, Any]:
        """What is fine-tuned and how, for the card."""

    @property
    def image_side(self) -> int | None:
        """The side in pixels of the model's input."""

    def prepare(self, images: list[Image.Image]) -> Mapping[str, Tensor]:
        """Return the inputs of the image tower; called in several threads."""

    def rehearsed(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Return the photographs to rehearse with the texts to rehearse; called before the training."""

    def begin(self) -> None:
        """Put the model into training mode."""

    def checkpoint_gradients(self) -> None:
        """Keep fewer activations."""

    def loss(self, batch: Batch) -> Tensor:
        """Return the loss of a batch, a scalar in float32."""

    def mix(self, share: float) -> None:
        """Set the weights to this share of the way from the old to the trained ones, in eval mode."""

    def as_model(self) -> Any:
        """Return the captioner or encoder with the present weights."""

    def save(self, output: Path) -> None:
        """Write a folder that loads like the model before."""


class _Trained:
    """The weights that are trained, as a part of the state."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = {name: one for name, one in model.named_parameters() if one.requires_grad}

    def state_dict(self) -> dict[str, Tensor]:
        return {name: one.detach() for name, one in self._weights.items()}

    def load_state_dict(self, state: Mapping[str, Tensor], /) -> None:
        with torch.no_grad():
            for name, one in self._weights.items():
                one.copy_(state[name])


def train(
    learner: Learner,
    batches: Batches,
    plan: FineTuningPlan,
    folder: RunFolder,
    *,
    device: str,
    steps: int,
    on_step: OnStep,
) -> None:
    """Train the learner's model in place, from the folder's state on if there is one.

    A run that is killed and started again has the losses of an unbroken run: batches, dropout and learning
    rate depend only on the number of the step.

    Raises:
        ConfigError: the loss is not a finite number any more, or the device lacks the precision or memory.
        ImageReadError: a photograph cannot be read any more.
    """
    precision = choose_precision(plan.precision, device)
    kind = torch.device(device).type
    half = precision != "float32"
    if plan.gradient_checkpointing:
        learner.checkpoint_gradients()
    optimizer = adamw([learner.model], learning_rate=0.0, weight_decay=plan.weight_decay)
    scaler = torch.amp.GradScaler(kind, enabled=precision == "float16")
    parts: dict[str, Stateful] = {
        "weights": _Trained(learner.model),
        "optimizer": optimizer,
        "scaler": scaler,
    }
    checkpoint = Checkpoint(folder.state, every=plan.checkpoint_every)
    first = checkpoint.resume(parts)
    peak = plan.learning_rate or learner.learning_rate
    trained = [one for one in learner.model.parameters() if one.requires_grad]
    learner.begin()
    numbers = torch.Generator()
    with StepLog(folder, first) as log:
        ahead = batches.numbered(first * plan.accumulate, steps * plan.accumulate)
        for step in range(first, steps):
            seeded(numbers, seed=plan.seed, step=step)
            rate = peak * one_cycle(step, steps)
            set_learning_rate(optimizer, rate)
            optimizer.zero_grad(set_to_none=True)
            total = 0.0
            for _ in range(plan.accumulate):
                batch = next(ahead)
                with _enough_memory(), torch.autocast(kind, dtype=getattr(torch, precision), enabled=half):
                    loss = learner.loss(batch) / plan.accumulate
                with _enough_memory():
                    torch.autograd.backward(scaler.scale(loss))
                total += loss.item()
            _check_finite(total, step + 1)
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(trained, 1.0)
            scaler.step(optimizer)
            scaler.update()
            log.step(step + 1, total, rate)
            checkpoint.save(step + 1, parts, now=step + 1 == steps)
            on_step(step + 1, steps, total)


@contextmanager
def _enough_memory() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            "a batch does not fit in the memory of the device. Train into another folder with a smaller "
            "batch_size (--batch-size; for captioners with more --accumulate, which changes little), or with "
            "gradient_checkpointing (--gradient-checkpointing)"
        ) from error


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise ConfigError(
            f"the loss of step {step} is {loss}: the training diverged. Lower the learning rate, or use "
            "precision 'bfloat16' or 'float32'"
        )
