"""Helpers of the transformers captioners: options for ``generate``, captions from its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.records import Caption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from autotag.protocols import CaptionOptions


def check_beams(options: CaptionOptions) -> None:
    """Refuse more captions than beams.

    Raises:
        ConfigError: more captions than beams are asked for; the message gives both numbers.
    """
    if options.num_captions > options.num_beams:
        raise ConfigError(
            f"num_captions={options.num_captions} needs as many beams, but num_beams={options.num_beams}"
        )


def check_length(name: str, most: int, prompt: int, options: CaptionOptions) -> None:
    """Refuse a prompt and a caption that together are longer than the model's positions.

    Args:
        name: of the captioner.
        most: tokens that the model reads, of prompt and caption.
        prompt: tokens of the prompt.
        options: the caption options.

    Raises:
        ConfigError: they are too long; the message gives all numbers.
    """
    if prompt + options.max_new_tokens > most:
        raise ConfigError(
            f"{name!r} reads {most} tokens, but the prompt has {prompt} and "
            f"max_new_tokens={options.max_new_tokens}; shorten one"
        )


def generation_options(options: CaptionOptions) -> dict[str, Any]:
    """Return the options as keyword arguments of ``generate``.

    Other settings of a checkpoint, such as ``no_repeat_ngram_size``, stay in force. Its sampling settings
    and ``max_length`` are removed, because ``generate`` warns about them when it does not sample, and when it
    gets ``max_new_tokens``.
    """
    given: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "max_length": None,
        "num_beams": options.num_beams,
        "repetition_penalty": options.repetition_penalty,
        "do_sample": False,
        "temperature": None,
        "top_k": None,
        "top_p": None,
        "return_dict_in_generate": True,
    }
    if options.min_new_tokens:
        given["min_new_tokens"] = options.min_new_tokens
    if options.num_beams > 1:
        return {**given, "num_return_sequences": options.num_captions, "output_scores": True}
    return {**given, "early_stopping": None, "length_penalty": None}


def placed(inputs: Mapping[str, torch.Tensor], model: Any) -> dict[str, torch.Tensor]:
    """Return inputs on the model's device, pixels in its dtype."""
    return {
        key: values.to(model.device, model.dtype) if values.is_floating_point() else values.to(model.device)
        for key, values in inputs.items()
    }


def captions_of(
    texts: Sequence[str], written: Any, options: CaptionOptions, source: str
) -> list[list[Caption]]:
    """Return ``options.num_captions`` captions for each image, best first.

    Args:
        texts: one per sequence, grouped by image; runs of white space become one space.
        written: the output of ``generate``; with beam search it holds the scores, mean log-probabilities.
        options: the caption options.
        source: the captioner's name.
    """
    captions = [
        Caption(" ".join(text.split()), source, score)
        for text, score in zip(texts, _scores(written), strict=True)
    ]
    step = options.num_captions
    return [captions[start : start + step] for start in range(0, len(captions), step)]


def _scores(written: Any) -> list[float | None]:
    scores = getattr(written, "sequences_scores", None)
    return [None] * len(written.sequences) if scores is None else [float(score) for score in scores]
