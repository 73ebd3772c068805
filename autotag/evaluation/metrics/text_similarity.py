"""Semantic similarity of texts: cosines of sentence embeddings (Sentence-BERT, arXiv:1908.10084).

The mean over matched pairs is the metric of the Kaggle competition "Stable Diffusion - Image to Prompts"
(2023), which uses all-MiniLM-L6-v2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Normalise rows to length 1: (N, D) -> (N, D) float64; a row of zeros stays zeros."""
    rows = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths == 0, 1.0, lengths)


def matched_similarity(generated: NDArray[np.floating], true: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosine of each row with its partner: (N, D), (N, D) -> (N,) in [-1, 1]; 0 for zero rows.

    Raises:
        ValueError: the shapes differ.
    """
    if generated.shape != true.shape:
        raise ValueError(f"pairs need equal shapes, not {generated.shape} and {true.shape}")
    cosines: NDArray[np.float64] = np.einsum("nd,nd->n", unit_rows(generated), unit_rows(true))
    return cosines


def similarity_matrix(generated: NDArray[np.floating], true: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the cosines of all pairs of rows: (N, D), (M, D) -> (N, M) in [-1, 1]."""
    matrix: NDArray[np.float64] = unit_rows(generated) @ unit_rows(true).T
    return matrix


def best_matches(matrix: NDArray[np.float64]) -> NDArray[np.intp]:
    """Return the most similar column per row: (N, M) -> (N,); of ties, the first."""
    columns: NDArray[np.intp] = np.argmax(matrix, axis=1)
    return columns


def nearest_similarity(
    generated: NDArray[np.floating], references: NDArray[np.floating], owners: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the cosine of each text with the most similar of its own references: (N,) in [-1, 1].

    Args:
        generated: (N, D).
        references: (R, D), of all images.
        owners: (R,), the row of ``generated`` that each reference belongs to.

    Raises:
        ValueError: a text has no reference.
    """
    cosines = np.einsum("rd,rd->r", unit_rows(generated)[owners], unit_rows(references))
    nearest = np.full(len(generated), -np.inf)
    np.maximum.at(nearest, owners, cosines)
    if np.isinf(nearest).any():
        raise ValueError("every text needs a reference")
    return nearest
