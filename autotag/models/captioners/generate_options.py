"""What captioners of transformers share: options as ``generate`` knows them, captions of what it wrote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autotag.errors import ConfigError
from autotag.records import Caption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch

    from autotag.protocols import CaptionOptions


def check_beams(options: CaptionOptions) -> None:
    """Refuses more captions than beams.

    Raises:
        ConfigError: says both numbers.
    """
    if options.num_captions > options.num_beams:
        raise ConfigError(
            f"num_captions={options.num_captions} needs as many beams, but num_beams={options.num_beams}"
        )


def generation_options(options: CaptionOptions) -> dict[str, Any]:
    """The options as ``generate`` knows them.

    What a checkpoint says beyond them, such as ``no_repeat_ngram_size``, stays as it says. Settings of
    sampling are taken away, because ``generate`` complains of them where it does not sample.
    """
    given: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
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
    """Inputs on the model's device, pixels in its dtype."""
    return {
        key: values.to(model.device, model.dtype) if values.is_floating_point() else values.to(model.device)
        for key, values in inputs.items()
    }


def captions_of(
    texts: Sequence[str], written: Any, options: CaptionOptions, source: str
) -> list[list[Caption]]:
    """Per image its captions, best first, ``options.num_captions`` each.

    Args:
        texts: one per sequence, those of one image together; runs of white space become one space.
        written: what ``generate`` returned; a score is its mean log-probability by beam search, else None.
        options: as asked.
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
