"""Part 1 of the recipe of the mini models: the sentence encoder, and vectors of texts by its teacher."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from torch import Tensor

from autotag.files.replacing import appearing
from autotag.models.pool import ModelPool
from autotag.training.precision import in_half_precision
from autotag.training.sentence_encoder import distil_tokens, kept_tokens, train_sentence_encoder
from autotag.training.text_vocabulary import words_in

COMMON_TOKENS = 16_000
SENTENCE_TOKENS = 20_000


def read_teacher(name: str) -> SentenceTransformer:
    """Return the sentence transformer of this hub name or folder, on the CPU.

    Raises:
        ModelUnavailableError: it is not on this machine and cannot be downloaded.
        ModelLoadError: its files do not load.
    """
    extractor: Any = ModelPool(device="cpu").extractor(f"keybert:{name}")
    teacher: SentenceTransformer = extractor.model
    return teacher


def make_sentence_encoder(teacher: SentenceTransformer, output: Path) -> None:
    """Run part 1: train the static sentence encoder and save it in half precision."""
    model = train_sentence_encoder(teacher, dimensions=128, most=SENTENCE_TOKENS)
    model.save_pretrained(str(output), create_model_card=False)
    weights = str(output / "model.safetensors")
    save_file(in_half_precision(load_file(weights)), weights)


def teacher_vectors(teacher: SentenceTransformer, texts: Sequence[str], folder: Path) -> Tensor:
    """Embed texts by the teacher: (T, E) float32 unit rows; cached in the folder by a hash of the texts."""
    file = folder / f"{hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        encoded = teacher.encode(
            list(texts), batch_size=256, show_progress_bar=False, normalize_embeddings=True
        )
        with appearing(file) as stream:
            np.save(stream, np.asarray(encoded, dtype=np.float16))
    return torch.from_numpy(np.load(file)).float()


def vectors_of_tokens(teacher: SentenceTransformer, texts: Iterable[str]) -> tuple[list[str], Tensor]:
    """Return the most common tokens and those of the training texts, with their vectors (V, 256)."""
    known = kept_tokens(teacher.tokenizer.backend_tokenizer.get_vocab(with_added_tokens=True))
    vectors = distil_tokens(teacher, known, dimensions=256)
    used = words_in(texts)
    rows = [row for row, token in enumerate(known) if row < COMMON_TOKENS or token in used]
    return [known[row] for row in rows], vectors[rows]
