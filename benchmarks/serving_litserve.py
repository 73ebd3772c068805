"""The server that ``serving.py --litserve PYTHON`` compares with; it starts this file.

    python benchmarks/serving_litserve.py PRESET DEVICE PORT

LitServe as its documentation has it: a batch is a list of images for the pipeline. Its workers are processes,
which import this file; so the API is not in a function, and litserve not in the environment of the others.
"""

from __future__ import annotations

import base64
import sys
from typing import Any

import litserve

import autotag


class Tagging(litserve.LitAPI):  # type: ignore[misc]
    """One pipeline in one worker."""

    def __init__(self, preset: str, device: str, **options: Any) -> None:
        super().__init__(**options)
        self._preset, self._device = preset, device

    def setup(self, device: str) -> None:  # noqa: ARG002 - LitServe gives it
        self.pipeline = autotag.load(self._preset, device=self._device)
        self.pipeline.load()

    def decode_request(self, request):  # type: ignore[no-untyped-def]  # LitServe looks at the annotations
        return base64.b64decode(request["image"])

    def predict(self, images: list[bytes]) -> list[Any]:
        return list(self.pipeline.stream(images))

    def encode_response(self, output):  # type: ignore[no-untyped-def]
        return output.to_dict()


def main(preset: str, device: str, port: str) -> None:
    most = autotag.load(preset, device=device).images_per_batch
    api = Tagging(preset, device, max_batch_size=most, batch_timeout=0.01)
    litserve.LitServer(api, accelerator="cpu", timeout=600).run(
        host="127.0.0.1", port=int(port), generate_client_file=False
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
