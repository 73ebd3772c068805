"""For tests, ours and yours: fake models that need no weights and no torch, and checks of the contracts.

::

    from autotag.testing import FakeEncoder, check_stage, make_sample

    def test_my_stage_keeps_the_contract():
        check_stage(MyStage())

The fakes are deterministic: the same input gives the same output in every process. The checks raise
``AssertionError`` and say what is wrong.
"""

from autotag.testing.checks import (
    check_captioner,
    check_detector,
    check_encoder,
    check_extractor,
    check_stage,
    check_writer,
)
from autotag.testing.fakes import (
    FakeCaptioner,
    FakeDetector,
    FakeEncoder,
    FakeExtractor,
    FakeModels,
    make_image,
    make_sample,
    make_samples,
)

__all__ = [
    "FakeCaptioner",
    "FakeDetector",
    "FakeEncoder",
    "FakeExtractor",
    "FakeModels",
    "check_captioner",
    "check_detector",
    "check_encoder",
    "check_extractor",
    "check_stage",
    "check_writer",
    "make_image",
    "make_sample",
    "make_samples",
]
