"""Test helpers for autotag and plug-ins: fake models without weights and torch, and checks of the protocols.

::

    from autotag.testing import FakeEncoder, check_stage, make_sample

    def test_my_stage_fits_the_protocol():
        check_stage(MyStage())

The fakes are deterministic: the same input gives the same output in every process. A failed check raises
``AssertionError`` with the reason.
"""

from autotag.testing.checks import (
    check_captioner,
    check_classifier,
    check_detector,
    check_encoder,
    check_extractor,
    check_stage,
    check_translator,
    check_writer,
)
from autotag.testing.fakes import (
    FakeCaptioner,
    FakeClassifier,
    FakeDetector,
    FakeEncoder,
    FakeExtractor,
    FakeModels,
    FakeTranslator,
    make_image,
    make_sample,
    make_samples,
)

__all__ = [
    "FakeCaptioner",
    "FakeClassifier",
    "FakeDetector",
    "FakeEncoder",
    "FakeExtractor",
    "FakeModels",
    "FakeTranslator",
    "check_captioner",
    "check_classifier",
    "check_detector",
    "check_encoder",
    "check_extractor",
    "check_stage",
    "check_translator",
    "check_writer",
    "make_image",
    "make_sample",
    "make_samples",
]
