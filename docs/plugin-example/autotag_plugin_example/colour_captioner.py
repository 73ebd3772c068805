"""A captioner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from autotag.errors import ConfigError
from autotag.protocols import CaptionOptions, ModelRequest
from autotag.records import Caption
from autotag_plugin_example.colours import NAMES, colour_shares


class ColourCaptioner:
    """Says which colours an image has, one per caption, the commonest first: "a picture in blue".

    A caption's score is the share of the image that has this colour. Beams and bounds on tokens mean
    nothing here.

    Args:
        name: what captions call their source.
    """

    image_size = 64

    def __init__(self, name: str = "colour-words") -> None:
        self.name = name

    @classmethod
    def load(cls, request: ModelRequest) -> ColourCaptioner:
        """What the entry point names: called once, with the name that the user wrote."""
        return cls(request.name)

    def caption(self, images: Sequence[Image.Image], /, options: CaptionOptions) -> list[list[Caption]]:
        """Per image ``options.num_captions`` captions.

        Raises:
            ConfigError: there are not so many colours.
        """
        if options.num_captions > len(NAMES):
            raise ConfigError(f"{self.name} knows {len(NAMES)} colours, not {options.num_captions}")
        return [self._captions(image, options) for image in images]

    def _captions(self, image: Image.Image, options: CaptionOptions) -> list[Caption]:
        start = options.prompt or "a picture in"
        shares = colour_shares(image)
        commonest = np.argsort(-shares, kind="stable")[: options.num_captions]
        return [Caption(f"{start} {NAMES[index]}", self.name, float(shares[index])) for index in commonest]
