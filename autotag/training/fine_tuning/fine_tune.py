"""Fine-tunes a captioner or an encoder: trains, chooses the share of the change to keep, judges, writes."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from autotag.errors import ConfigError
from autotag.evaluation.datasets import EvaluationSet
from autotag.models.loading.device import choose_device
from autotag.models.names import ModelAddress, parse_name
from autotag.models.pool import ModelPool
from autotag.training.fine_tuning.captioner import Lora, LoraCaptioner
from autotag.training.fine_tuning.card import versions, write_card
from autotag.training.fine_tuning.encoder import ContrastiveEncoder
from autotag.training.fine_tuning.figures import Figures, captioner_figures, deciding, encoder_figures
from autotag.training.fine_tuning.photographs import Batches, SplitPhotographs, split_photographs
from autotag.training.fine_tuning.plan import FineTuningPlan, choose_precision
from autotag.training.fine_tuning.run_folder import RunFolder, check_output, tensorboard_writer
from autotag.training.fine_tuning.training import Learner, OnStep, train

HELD_OUT = "held out"
_WITHOUT_KEEP = {"captioner": 1.0, "encoder": 0.5}
_NOT_OF_TRAINING = ("workers", "checkpoint_every", "device", "may_lose", "share")
"""Settings that may change when a run is resumed."""

Kind = Literal["captioner", "encoder"]
_Judge = Callable[[Any, EvaluationSet], Figures]


@dataclass(frozen=True)
class Mixture:
    """A share of the learned change that was tried.

    Attributes:
        share: of the learned change; 0 is the old model.
        figures: by the name of the set: ``"held out"`` and the photographs to keep.
    """

    share: float
    figures: dict[str, Figures]


OnShare = Callable[[Mixture], None]


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned model.

    Attributes:
        folder: with the model; give it wherever a model is named.
        share: how much of the learned change is in the weights.
        before: name of a set of photographs -> figures of the old model; ``"held out"`` is of the data set.
        after: the same for the new model, loaded from its folder.
    """

    folder: Path
    share: float
    before: dict[str, Figures]
    after: dict[str, Figures]


def fine_tune_captioner(
    dataset: EvaluationSet,
    base: str,
    output: Path,
    *,
    plan: FineTuningPlan | None = None,
    lora: Lora | None = None,
    keep: Sequence[EvaluationSet] = (),
    on_step: OnStep = lambda *_: None,
    on_share: OnShare = lambda _: None,
) -> FineTuned:
    """Fine-tune a captioner by LoRA on captions, and write it with the adapters merged.

    Args:
        dataset: photographs with captions, see ``autotag.evaluation.datasets.read_dataset``.
        base: BLIP, BLIP-2, GIT or Florence-2: a name of the catalog, a folder, or ``"hf:<hub id>"``.
        output: the folder to write. A run that was killed resumes from it, if nothing else is changed.
        plan: hyperparameters; None for the defaults.
        lora: of the adapters; None for the defaults.
        keep: captioned photographs of other kinds, on which the captions must not get worse by more than
            ``plan.may_lose``; the share of the change is chosen by them. Without them it is 1.
        on_step: called after each step.
        on_share: called after each share of the change that was judged; 0 is the old model.

    Raises:
        ConfigError: a package is missing, the data has no captions or too few, the folder is in use, the
            training diverged, or no share of the change is better without losing too much.
        ModelError: the weights are missing or damaged, or of a class that is not fine-tuned.
    """
    plan, lora = plan or FineTuningPlan(), lora or Lora()
    for one in (dataset, *keep):
        if not one.has_texts:
            raise ConfigError(f"{one.name!r} has tags and no captions; a captioner learns from captions")
    address = parse_name(base, "captioner")
    if address.factory != "hf":
        raise ConfigError(
            f"captioner {base!r} cannot be fine-tuned: it is loaded by {address.factory!r}. "
            "BLIP, BLIP-2, GIT and Florence-2 can, such as 'blip-base'"
        )
    device = choose_device(plan.device)

    def learner() -> Learner:
        return LoraCaptioner(_request(address, device), lora, seed=plan.seed)

    def judge(captioner: Any, photographs: EvaluationSet) -> Figures:
        return captioner_figures(captioner, photographs, device=device)

    return _fine_tune(
        "captioner", address, dataset, output, plan, keep, learner, judge, on_step, on_share, asdict(lora)
    )


def fine_tune_encoder(
    dataset: EvaluationSet,
    base: str,
    output: Path,
    *,
    plan: FineTuningPlan | None = None,
    keep: Sequence[EvaluationSet] = (),
    on_step: OnStep = lambda *_: None,
    on_share: OnShare = lambda _: None,
) -> FineTuned:
    """Fine-tune an encoder on captions or tags, and mix its weights with the old ones (WiSE-FT).

    Args:
        dataset: photographs with captions, or with tags; captions are used if there are both.
        base: a CLIP or SigLIP of open_clip or transformers: a name of the catalog, a folder,
            ``"hf:<hub id>"`` or ``"open_clip:<architecture>/<pretrained tag>"``.
        output: the folder to write. A run that was killed resumes from it, if nothing else is changed.
        plan: hyperparameters; None for the defaults.
        keep: photographs of other kinds with captions or tags, on which the old encoder's figures must not
            fall by more than ``plan.may_lose``. Of the shares that hold that, the one with the best figure on
            held-out photographs is taken. Without ``keep`` it is 0.5, as Wortsman et al. advise.
        on_step: called after each step.
        on_share: called after each share of the change that was judged; 0 is the old model.

    Raises:
        ConfigError: a package is missing, the data is too little, the folder is in use, the training
            diverged, or no share of the change is better without losing too much.
        ModelError: the weights are missing or damaged, or of a class that is not fine-tuned.
    """
    plan = plan or FineTuningPlan()
    address = parse_name(base, "encoder")
    if address.factory not in {"hf", "open_clip"}:
        raise ConfigError(
            f"encoder {base!r} cannot be fine-tuned: it is loaded by {address.factory!r}. "
            "CLIP and SigLIP of open_clip or transformers can, such as 'clip-mini'"
        )
    device = choose_device(plan.device)

    def learner() -> Learner:
        return ContrastiveEncoder(address.factory, _request(address, device))

    def judge(encoder: Any, photographs: EvaluationSet) -> Figures:
        loaded = ModelPool(device=device).encoder(encoder) if isinstance(encoder, str) else encoder
        return encoder_figures(loaded, photographs)

    return _fine_tune("encoder", address, dataset, output, plan, keep, learner, judge, on_step, on_share, {})


def _check_batches(kind: Kind, plan: FineTuningPlan, *, rehearses: bool) -> None:
    """Refuse batches of one photograph where they cannot do what is asked for."""
    if plan.batch_size > 1:
        return
    if kind == "encoder":
        raise ConfigError(
            "batch_size is 1; an encoder learns from the contrast between the photographs of a batch, "
            "so use 2 or more, and rather 16 or more"
        )
    if rehearses:
        raise ConfigError(
            "batch_size is 1; a batch with photographs to rehearse has 2 or more. Use a larger batch_size, "
            "or rehearse=0 (--rehearse 0), which only judges by the photographs to keep"
        )


def _request(address: ModelAddress, device: str) -> Any:
    return address.request(device, "float32")


def _fine_tune(  # noqa: PLR0917  (called twice, above)
    kind: Kind,
    address: ModelAddress,
    dataset: EvaluationSet,
    output: Path,
    plan: FineTuningPlan,
    keep: Sequence[EvaluationSet],
    make: Callable[[], Learner],
    judge: _Judge,
    on_step: OnStep,
    on_share: OnShare,
    more: dict[str, Any],
) -> FineTuned:
    """Do what both kinds have in common; the cheap checks come first."""
    started = time.monotonic()
    tensorboard_writer()
    check_output(output)
    _check_batches(kind, plan, rehearses=bool(keep and plan.rehearse))
    _check_names(keep)
    output = output.absolute()  # a relative one may be the name of a model in the catalog
    device = choose_device(plan.device)
    precision = choose_precision(plan.precision, device)
    split = split_photographs(dataset, held_out=plan.held_out, workers=plan.workers)
    kept = _kept(keep, plan)
    judged = {HELD_OUT: split.held_out, **{name: one.held_out for name, one in kept.items()}}
    rehearsed = tuple(example for one in kept.values() for example in one.train)
    learner = make()
    settings = {**asdict(plan), **more}
    trained_by = {key: value for key, value in settings.items() if key not in _NOT_OF_TRAINING}
    folder = RunFolder.begin(
        output,
        {
            "kind": kind,
            "base": _shown(address),
            "data": split.sha256,
            "keep": [one.sha256 for one in kept.values()] if plan.rehearse else [],
            **trained_by,
            "precision": precision,
        },
    )
    facts = learner.facts
    rehearsed = learner.rehearsed(rehearsed)
    batch_size = min(plan.batch_size, len(split.train))
    batches = Batches(
        split.train,
        batch_size,
        learner.prepare,
        learner.image_side,
        plan.smallest_crop,
        plan.workers,
        plan.seed,
        rehearsed,
        min(batch_size - 1, math.ceil(plan.rehearse * batch_size)) if rehearsed else 0,
    )
    photographs = len(split.train) * batch_size // (batch_size - batches.rehearsed_per_batch)
    steps = plan.steps_for(photographs, batch_size)
    learning_rate = plan.learning_rate or learner.learning_rate
    with folder.writing():
        train(learner, batches, plan, folder, device=device, steps=steps, on_step=on_step)
    share, mixtures = _chosen(kind, learner, judged, plan, judge, on_share=on_share)
    learner.mix(share)
    with folder.writing():
        learner.save(output)
    del learner, batches
    gc.collect()
    before = {name: judge(address.name, one) for name, one in judged.items()}
    after = {name: judge(str(output), one) for name, one in judged.items()}
    losses = folder.losses()
    card = {
        "kind": kind,
        "base": {"name": _shown(address), "licence": address.card.licence if address.card else None},
        "data": {
            "name": Path(dataset.name).name,
            "photographs": len(split.train),
            "rehearsed": len(rehearsed),
            "held_out": len(split.held_out.examples),
            "unreadable": split.unreadable,
            "sha256": split.sha256,
        },
        "training": {
            **facts,
            **settings,
            "steps": steps,
            "learning_rate": learning_rate,
            "precision": precision,
            "device": device,
            "first_loss": losses[0]["loss"],
            "last_loss": losses[-1]["loss"],
            "seconds": round(time.monotonic() - started),
        },
        "share": share,
        "mixtures": [asdict(one) for one in mixtures],
        "figures": {name: {"before": before[name], "after": after[name]} for name in judged},
        "versions": versions(),
    }
    with folder.writing():
        write_card(output, card)
    folder.end()
    return FineTuned(output, share, before, after)


def _shown(address: ModelAddress) -> str:
    """Return the model's name for a card, without the place of a local folder."""
    return address.folder.name if address.folder and address.card is None else address.name


def _check_names(keep: Sequence[EvaluationSet]) -> None:
    """Refuse sets whose figures would stand under one name."""
    names = [HELD_OUT, *(Path(one.name).name for one in keep)]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ConfigError(f"two sets of photographs to keep are called {name!r}; rename one")


def _kept(keep: Sequence[EvaluationSet], plan: FineTuningPlan) -> dict[str, SplitPhotographs]:
    """Return the photographs to keep by the name of their set: half to rehearse, half to judge on."""
    kept: dict[str, SplitPhotographs] = {}
    for one in keep:
        name = Path(one.name).name
        if plan.rehearse:
            kept[name] = split_photographs(one, held_out=0.5, workers=plan.workers)
        else:
            kept[name] = SplitPhotographs((), one, "", 0)
    return kept


def _chosen(
    kind: Kind,
    learner: Learner,
    judged: dict[str, EvaluationSet],
    plan: FineTuningPlan,
    judge: _Judge,
    *,
    on_share: OnShare,
) -> tuple[float, list[Mixture]]:
    """Return the share of the change to keep, and the shares that were tried.

    Raises:
        ConfigError: no share is better than the old model without losing too much.
    """
    if plan.share is not None or len(judged) == 1:
        return plan.share or _WITHOUT_KEEP[kind], []
    mixtures: list[Mixture] = []
    for share in (0.0, *learner.shares):
        learner.mix(share)
        mixture = Mixture(share, {name: judge(learner.as_model(), one) for name, one in judged.items()})
        on_share(mixture)
        mixtures.append(mixture)
    share = best_share(mixtures, may_lose=plan.may_lose)
    if share == 0:
        raise ConfigError(_nothing_gained(mixtures, plan.may_lose))
    return share, mixtures


def _nothing_gained(mixtures: Sequence[Mixture], may_lose: float) -> str:
    """Say why no share is taken, and which loss would have to be allowed, if that helps."""
    old, *changed = mixtures
    before = deciding(old.figures[HELD_OUT])
    gains = [one for one in changed if deciding(one.figures[HELD_OUT]) > before]
    elsewhere = "train into another folder, longer or with another learning rate"
    if not gains:
        return (
            f"no share of the learned change is better on the held-out photographs, where the old model has "
            f"{before:.3f}; to gain there, {elsewhere}, or judge by more of them (--held-out)"
        )
    cheapest = min(gains, key=lambda one: _loss(old, one))
    allowed = math.ceil(_loss(old, cheapest) * 1000) / 1000
    return (
        "no share of the learned change is better on the held-out photographs without losing more than "
        f"{may_lose:g} on those to keep. Share {cheapest.share:g} brings {before:.3f} to "
        f"{deciding(cheapest.figures[HELD_OUT]):.3f}: --may-lose {allowed:g} takes it without "
        f"training again; or {elsewhere}"
    )


def _loss(old: Mixture, new: Mixture) -> float:
    """Return how much the figure falls that falls most, of the photographs to keep."""
    return max(
        value - new.figures[name][figure]
        for name, figures in old.figures.items()
        if name != HELD_OUT
        for figure, value in figures.items()
    )


def best_share(mixtures: Sequence[Mixture], *, may_lose: float) -> float:
    """Return the share with the best figure on held-out photographs that loses little on the others.

    Args:
        mixtures: the first one has share 0.
        may_lose: how much lower than the first one's any figure of the other sets may be.

    Returns:
        The smallest of equally good ones; 0 if none is better than the first.
    """
    limit = may_lose + 1e-9  # a loss of exactly that much is allowed, whatever its last digit
    allowed = [mixtures[0], *(one for one in mixtures if _loss(mixtures[0], one) <= limit)]
    return max(allowed, key=lambda one: (deciding(one.figures[HELD_OUT]), -one.share)).share
