"""Averages the weights of two models with a common beginning (Wortsman et al. 2022, arXiv:2109.01903)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def average_states(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Return the weights on the line between two states.

    A fine-tuned model that is averaged with the model it began as keeps what the beginning knew, and most of
    what it learned.

    Args:
        first: state of a model.
        second: state of a model with the same parameters, trained from the same beginning.
        share: of ``second``, from 0 to 1.

    Returns:
        ``(1 - share) * first + share * second``, with the dtypes of ``first``; tensors that are not of
        floating point (counters) are those of ``second``.

    Raises:
        ValueError: the share is outside 0 to 1, or the states do not have the same names and shapes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1, not {share}")
    if {name: one.shape for name, one in first.items()} != {name: one.shape for name, one in second.items()}:
        raise ValueError("the two states are of different models")
    return {
        name: one.float().lerp(second[name].float(), share).to(one.dtype)
        if one.is_floating_point()
        else second[name]
        for name, one in first.items()
    }
