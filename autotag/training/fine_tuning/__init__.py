"""Fine-tuning of published models on a user's own photographs: ``autotag train``.

``fine_tune_captioner`` and ``fine_tune_encoder`` write a folder that every loader reads. Captioners need the
extra ``autotag-images[finetune]``. The trainers of the bundled models are in ``autotag.training``.
"""

from autotag.training.fine_tuning.captioner import Lora
from autotag.training.fine_tuning.fine_tune import FineTuned, fine_tune_captioner, fine_tune_encoder
from autotag.training.fine_tuning.plan import FineTuningPlan

__all__ = ["FineTuned", "FineTuningPlan", "Lora", "fine_tune_captioner", "fine_tune_encoder"]
