"""Boilerplate of cameras is told from what people write."""

from __future__ import annotations

import pytest

from autotag.metadata.camera_descriptions import is_from_camera

CAMERAS = (
    "cof", "oznor", "hdr", "SAMSUNG", "Untitled", "default", "CameraID=52aa4c5e,1", "SONY DSC",
    "OLYMPUS DIGITAL CAMERA         ", "KONICA MINOLTA DIGITAL CAMERA", "JENOPTIK DIGITAL CAMERA",
    "KODAK Digital Still Camera", "Exif_JPEG_PICTURE", "<Digimax i5, Samsung #1>",
    "<KENOX S630  / Samsung S630>", "DCIM\\100MEDIA\\DJI_0001.JPG", "IMG_0001.JPG", "DSC01234",
    "Processed with VSCO with a6 preset", "Created with GIMP", "sdr_HDRB", "Screenshot", "---", "   ", "0000",
    "\u00ff\u00ff\u00ff\u00ff\u00ff", "oznorWO", "binary comment", "charset=Ascii",
)  # fmt: skip
PEOPLE = (
    "Our garden", "My first digital camera", "Anna with her Samsung", "Default judgement, 1984", "1984",
    "Mon ami", "Untitled (No. 5), oil on canvas", "hdr of the harbour", "Picture of Oma",
    "Processed with love", "Img of a cat", "A camera", "\u732b", "\u2665", "The camera shop in Paris",
    "Cof harbour", "Scanner darkly",
)  # fmt: skip


@pytest.mark.parametrize("text", CAMERAS)
def test_what_cameras_write_is_known(text):
    assert is_from_camera(text)


@pytest.mark.parametrize("text", PEOPLE)
def test_what_people_write_is_theirs(text):
    assert not is_from_camera(text)


def test_a_description_that_repeats_make_or_model_is_the_camera_s():
    for text in ("Acme", "X100", "ACME x100"):
        assert is_from_camera(text, make="ACME", model="X100")
        assert not is_from_camera(text)
    assert not is_from_camera("Acme in the snow", make="ACME", model="X100")


def test_a_long_text_is_not_a_camera_s_and_costs_nothing():
    assert not is_from_camera("a" * 1_000_000)
