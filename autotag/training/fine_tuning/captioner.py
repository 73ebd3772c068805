"""Fine-tunes a captioner of transformers by LoRA (Hu et al. 2021, arXiv:2106.09685) with the library peft."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  (the name that torch's users know)
from PIL import Image
from torch import Tensor, nn

from autotag.config.checks import check_count, check_number
from autotag.errors import ConfigError, install_hint
from autotag.evaluation.datasets import Example
from autotag.images.reading import read_image
from autotag.models.captioners import blip_captioner, florence_captioner
from autotag.models.captioners.blip_captioner import T5_PROMPT, HfCaptioner
from autotag.models.captioners.florence_captioner import TASKS, FlorenceCaptioner
from autotag.models.captioners.hybrid_blip import HybridBlip
from autotag.models.loading.transformers_loading import load_pretrained, square_side
from autotag.protocols import Captioner, CaptionOptions, ModelRequest
from autotag.training.captioner import keep_statistics
from autotag.training.fine_tuning.activations import keep_fewer_activations
from autotag.training.fine_tuning.photographs import Batch
from autotag.training.fine_tuning.saving import save_transformers

CLASSES = {**blip_captioner.CLASSES, **florence_captioner.CLASSES}
"""``model_type`` of a configuration -> the class that is fine-tuned."""

_IMAGE_TOWERS = {
    "blip": "vision_model",
    "blip-2": "vision_model",
    "florence2": "model.vision_tower",
    "git": "git.image_encoder",
}
_CACHING = ("blip-2", "git")  # keep keys and values also in training, which checkpointing cannot do twice
_AT_ONCE = 16
_IGNORED = -100


@dataclass(frozen=True)
class Lora:
    """Hyperparameters of the low-rank adapters.

    Attributes:
        rank: of the adapters, at least 1.
        alpha: their scale is ``alpha / rank``.
        dropout: of their input, from 0 to 0.9.
        images: whether the image tower is adapted, too.
        max_tokens: longer captions are cut to this many tokens, start and end included.

    Raises:
        ConfigError: a value is out of range.
    """

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    images: bool = True
    max_tokens: int = 40

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        check_number("alpha", self.alpha, least=0, above=True)
        check_number("dropout", self.dropout, least=0, most=0.9)
        check_count("max_tokens", self.max_tokens, least=4)


class LoraCaptioner:
    """A captioner with adapters on its linear layers, to be trained.

    Args:
        request: the model; float32 on its device.
        lora: hyperparameters.
        seed: for the adapters' first weights.

    Raises:
        ConfigError: peft is not installed.
        ModelUnavailableError: the weights are not on this machine and cannot be downloaded.
        ModelLoadError: the weights are damaged, or of a class that is not fine-tuned.
    """

    learning_rate = 2e-4
    shares: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)

    def __init__(self, request: ModelRequest, lora: Lora, *, seed: int) -> None:
        peft = _peft()
        self.lora = lora
        base, self.processor, self.folder = load_pretrained(
            request, "captioner", CLASSES, own_classes={"HybridBlip": HybridBlip}
        )
        base.requires_grad_(False)
        self.family: str = base.config.model_type
        config = peft.LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=_linear_layers(base, None if lora.images else _IMAGE_TOWERS[self.family]),
        )
        torch.manual_seed(seed)
        with warnings.catch_warnings():  # peft 0.21 asks for an attribute that transformers 5.24 renames
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            self._adapted: Any = peft.get_peft_model(base, config)
        self.model: nn.Module = base  # its layers are adapted in place
        self._inputs_of: Callable[..., dict[str, Tensor]] = _INPUTS[self.family]

    @property
    def facts(self) -> dict[str, Any]:
        """What is fine-tuned and how, for the card."""
        weights = sum(one.numel() for one in self.model.parameters() if one.requires_grad)
        return {"class": type(self.model).__name__, "lora": asdict(self.lora), "trained_weights": weights}

    @property
    def image_side(self) -> int | None:
        """The side in pixels of the model's input."""
        return square_side(self.processor.image_processor)

    def prepare(self, images: list[Image.Image]) -> Mapping[str, Tensor]:
        """Return the pixels (B, 3, H, W) of images."""
        return {"pixel_values": self.processor.image_processor(images, return_tensors="pt")["pixel_values"]}

    def rehearsed(self, examples: tuple[Example, ...]) -> tuple[Example, ...]:
        """Return photographs with the captions that the model writes now, which it shall go on writing.

        So it keeps its own style, too (Li and Hoiem 2016, arXiv:1606.09282).
        """
        self.model.eval()
        written: list[str] = []
        for start in range(0, len(examples), _AT_ONCE):
            images = [
                read_image(one.image, target_size=self.image_side, source=one.id).image
                for one in examples[start : start + _AT_ONCE]
            ]
            written += [some[0].text for some in self.as_model().caption(images, CaptionOptions())]
        return tuple(
            replace(one, texts=(text,)) for one, text in zip(examples, written, strict=True) if text.strip()
        )

    def begin(self) -> None:
        """Put the model into training mode; statistics of batch norms stay as they are."""
        self.model.train()
        keep_statistics(self.model)

    def checkpoint_gradients(self) -> None:
        """Keep fewer activations.

        Raises:
            ConfigError: the class does not support it.
        """
        keep_fewer_activations(self.model)

    def loss(self, batch: Batch) -> Tensor:
        """Return the mean cross-entropy of the captions' next tokens, a scalar in float32."""
        model: Any = self.model
        given = self._inputs_of(model.config, self.processor, batch.texts, self.lora.max_tokens)
        placed = {name: values.to(model.device) for name, values in {**given, **batch.images}.items()}
        labels = placed.pop("labels")
        if self._answers:
            logits = self._adapted(**placed, labels=labels).logits  # labels make the decoder's input
        else:
            cache = {"use_cache": False} if self.family in _CACHING else {}
            logits = self._adapted(**placed, **cache).logits[:, -labels.shape[1] : -1]  # after the image's
            labels = labels[:, 1:]
        return F.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=_IGNORED)

    def mix(self, share: float) -> None:
        """Set the weights to the old ones plus this share of the learned change, in eval mode."""
        self.model.eval()
        for module in self.model.modules():
            if isinstance(module, _peft().tuners.lora.LoraLayer):
                module.set_scale("default", share)

    def as_model(self) -> Captioner:
        """Return the captioner with the present weights."""
        kind: Any = FlorenceCaptioner if self.family == "florence2" else HfCaptioner
        captioner: Captioner = kind(self.model, self.processor, "fine-tuned")
        return captioner

    def save(self, output: Path) -> None:
        """Merge the adapters into the weights and write a folder that ``HfCaptioner`` and others load."""
        save_transformers(self._adapted.merge_and_unload(), self.folder, output)

    @property
    def _answers(self) -> bool:
        """Whether the language model is an encoder-decoder, whose labels are not shifted."""
        config: Any = self.model.config
        return self.family == "florence2" or (
            self.family == "blip-2" and not config.use_decoder_only_language_model
        )


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise ConfigError(f"fine-tuning a captioner needs peft: {install_hint('finetune')}") from error
    return peft


def _linear_layers(model: Any, without: str | None) -> list[str]:
    """Return the names of the linear layers; QLoRA adapts all (Dettmers et al. 2023, arXiv:2305.14314).

    The layer that scores the vocabulary is left out: its weight may be the one of the embeddings.
    """
    words = model.config.get_text_config(decoder=True).vocab_size
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.out_features != words
        and not (without and name.startswith(f"{without}."))
    ]


def _rows(
    tokenizer: Any, texts: Sequence[str], start: Sequence[int], end: int, max_tokens: int
) -> tuple[Tensor, Tensor]:
    """Return (B, L) int64 tokens ``start caption end``, padded at the right, and a mask of the same shape."""
    most = max_tokens - 2
    found = tokenizer(list(texts), add_special_tokens=False).input_ids
    rows = [torch.tensor([*start, *ids[:most], end]) for ids in found]
    counts = [torch.ones(len(row), dtype=torch.long) for row in rows]
    pad = partial(nn.utils.rnn.pad_sequence, batch_first=True)
    return pad(rows, padding_value=tokenizer.pad_token_id or 0), pad(counts)


def _labels(ids: Tensor, mask: Tensor, start: int = 0) -> Tensor:
    """Return the tokens as labels; padding and the first ``start`` ones are ignored."""
    labels = ids.masked_fill(mask == 0, _IGNORED)
    labels[:, :start] = _IGNORED
    return labels


def _blip(config: Any, processor: Any, texts: Sequence[str], most: int) -> dict[str, Tensor]:
    text = config.text_config
    ids, mask = _rows(processor.tokenizer, texts, [text.bos_token_id], text.sep_token_id, most)
    return {"input_ids": ids, "attention_mask": mask, "labels": _labels(ids, mask, 1)}


def _git(config: Any, processor: Any, texts: Sequence[str], most: int) -> dict[str, Tensor]:
    ids, mask = _rows(processor.tokenizer, texts, [config.bos_token_id], config.eos_token_id, most)
    return {"input_ids": ids, "attention_mask": mask, "labels": _labels(ids, mask, 1)}


def _blip2(config: Any, processor: Any, texts: Sequence[str], most: int) -> dict[str, Tensor]:
    """Return inputs as ``generate`` makes them: the image's tokens first, then the start of the caption.

    A T5 gets the prompt that its captions are asked for with.
    """
    text = config.text_config
    image = [config.image_token_id] * config.num_query_tokens
    if config.use_decoder_only_language_model:
        start = [*image, text.bos_token_id]
        ids, mask = _rows(processor.tokenizer, texts, start, _first(text.eos_token_id), most)
        return {"input_ids": ids, "attention_mask": mask, "labels": _labels(ids, mask, len(start))}
    labels = _labels(*_rows(processor.tokenizer, texts, [], _first(text.eos_token_id), most))
    asked = torch.tensor([[*image, *processor.tokenizer(T5_PROMPT).input_ids]]).repeat(len(texts), 1)
    return {"input_ids": asked, "attention_mask": torch.ones_like(asked), "labels": labels}


def _florence(config: Any, processor: Any, texts: Sequence[str], most: int) -> dict[str, Tensor]:
    text = config.text_config
    labels = _labels(*_rows(processor.tokenizer, texts, [text.bos_token_id], _first(text.eos_token_id), most))
    side = square_side(processor.image_processor) or 1
    blank = [Image.new("RGB", (side, side))] * len(texts)  # the text's tokens depend on there being an image
    asked = processor(images=blank, text=[TASKS["caption"]] * len(texts), return_tensors="pt")
    return {"input_ids": asked["input_ids"], "attention_mask": asked["attention_mask"], "labels": labels}


def _first(token: int | list[int]) -> int:
    return token if isinstance(token, int) else token[0]


_INPUTS: dict[str, Callable[..., dict[str, Tensor]]] = {
    "blip": _blip,
    "blip-2": _blip2,
    "florence2": _florence,
    "git": _git,
}
"""Family -> (configuration, processor, captions, most tokens) -> inputs besides pixels, and ``labels``."""
