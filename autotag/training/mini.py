"""The recipe of the bundled mini models, in four parts.

1. sentence: a static sentence encoder, distilled from all-MiniLM-L6-v2 (``mini_teacher``).
2. features: the features of every photograph by a backbone pretrained on ImageNet (``mini_photos``).
3. encoder: an open_clip CLIP on that backbone: train its head, its text tower, then both again
   (``mini_encoder``).
4. captioner: a BLIP on the same backbone (``mini_captioner``).

Intermediate results are kept in the work folder, so that a killed part resumes. On one machine, the result
depends only on the seeds. Parts 3 and 4 need part 2, but not each other.
"""

from __future__ import annotations

from autotag.training.mini_captioner import CaptionerPlans, captioner_config, make_captioner, save_captioner
from autotag.training.mini_encoder import EncoderPlans, encoder_config, make_encoder, save_encoder
from autotag.training.mini_photos import Photos, make_all_features, read_data
from autotag.training.mini_teacher import make_sentence_encoder, read_teacher

__all__ = [
    "CaptionerPlans",
    "EncoderPlans",
    "Photos",
    "captioner_config",
    "encoder_config",
    "make_all_features",
    "make_captioner",
    "make_encoder",
    "make_sentence_encoder",
    "read_data",
    "read_teacher",
    "save_captioner",
    "save_encoder",
]
