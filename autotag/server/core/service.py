"""The service behind every protocol: one batcher with its pipelines and limits."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from autotag.errors import (
    AutotagError,
    ImageReadError,
    ImageTooLargeError,
    RequestRefusedError,
    StageError,
)
from autotag.server.core.answers import Answer, Confidences
from autotag.server.core.batcher import Batcher
from autotag.server.core.metrics import Metrics
from autotag.server.core.url_images import UrlImages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request

    from autotag.images.reading import ImageInput
    from autotag.records import Result
    from autotag.server.core.limits import Limits
    from autotag.server.core.wishes import Pipelines, Wish

Answered = TypeVar("Answered")

MODEL = "autotag"
"""The model name of the default preset; others are ``"autotag:<preset>"``."""

UNTIL = "autotag.until"
"""The key of a request's scope that holds when it has to be answered, on the clock of ``time.monotonic``."""

NOTE = {"X-Autotag-Note": "prompt text is not followed; the answer is what the image models find"}


class ClientGoneError(Exception):
    """The client disconnected before the answer."""


@dataclass
class Service:
    """Serve images to every protocol: one batcher with its pipelines, limits and metrics.

    Attributes:
        pipelines: the pipelines of the presets.
        limits: how many images and bytes are accepted at once.
        allowed_hosts: the hosts, in lower case, from which URLs are fetched.
        metrics: the counters for Prometheus.
        urls: fetches images that requests name by URL.
    """

    pipelines: Pipelines
    limits: Limits
    allowed_hosts: frozenset[str] = frozenset()
    metrics: Metrics = field(default_factory=Metrics)
    urls: UrlImages = field(init=False)
    _batcher: Batcher | None = None
    _confidences: Mapping[str, Confidences] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.urls = UrlImages(self.allowed_hosts, self.limits.max_waiting)

    def start(self) -> None:
        """Load the models and start to accept images; call it in a thread."""
        self.pipelines.load()
        presets = self.pipelines.presets
        self._confidences = {name: Confidences.of(pipeline) for name, pipeline in presets.items()}
        batcher = Batcher(self.pipelines, self.limits, tell=self.metrics.count_batch)
        self.metrics.watch(batcher)
        self._batcher = batcher

    @property
    def loaded(self) -> bool:
        """Return whether the models are loaded."""
        return self._batcher is not None

    @property
    def ready(self) -> bool:
        """Return whether images are accepted now."""
        batcher = self._batcher
        return batcher is not None and not batcher.draining and batcher.waiting < self.limits.max_waiting

    @property
    def batcher(self) -> Batcher:
        """The batcher.

        Raises:
            RequestRefusedError: the models are still being loaded.
        """
        if self._batcher is None:
            raise RequestRefusedError("not_ready", "the models are being loaded; try again in a moment.", 5)
        return self._batcher

    async def stop(self) -> None:
        """Accept no more images, finish the accepted ones within ``limits.timeout`` seconds, and end."""
        batcher = self._batcher
        if batcher is not None:
            await batcher.drain(self.limits.timeout)
            await asyncio.to_thread(batcher.close)
        self.urls.close()

    def seconds_left(self, request: Request) -> float:
        """Return the seconds until a request has to be answered; 0 when it is late."""
        until: float = request.scope[UNTIL]
        return max(0.0, until - time.monotonic())

    def fetched(self, request: Request) -> Callable[[str], Awaitable[bytes]]:
        """Return what fetches the images that a request names by URL, while it has time."""
        return partial(self.urls.fetched, until=request.scope[UNTIL])

    async def tag(self, request: Request, image: ImageInput, wish: Wish, *, source: str = "image") -> Result:
        """Return the result for one image; stop if the client disconnects.

        Raises:
            RequestRefusedError: no answer, and why.
            ClientGoneError: the client hung up.
        """
        timeout = self.seconds_left(request)
        return await while_waited_for(request, self.outcome(image, wish, source=source, timeout=timeout))

    async def outcome(
        self, image: ImageInput, wish: Wish, *, source: str, timeout: float | None = None
    ) -> Result:
        """Return the result for one image.

        Args:
            image: what ``pipeline(image)`` takes.
            wish: what is wanted of it.
            source: what its result calls it.
            timeout: seconds; None for the limit's own.

        Raises:
            RequestRefusedError: no answer, and why.
        """
        try:
            return await self.batcher.tag(image, wish, source=source, timeout=timeout)
        except (ImageReadError, StageError) as error:
            raise _refusal_of(error) from error

    async def outcomes(
        self, images: Sequence[bytes], wish: Wish, *, sources: Sequence[str], timeout: float
    ) -> list[Result | RequestRefusedError]:
        """Return the result, or the refusal, of each image.

        Raises:
            RequestRefusedError: too much is waiting for all of them together.
        """
        found = await self.batcher.tag_batch(images, wish, sources=sources, timeout=timeout)
        outcomes: list[Result | RequestRefusedError] = []
        for outcome in found:
            if isinstance(outcome, ImageReadError | StageError):
                outcomes.append(_refusal_of(outcome))
            elif isinstance(outcome, AutotagError) and not isinstance(outcome, RequestRefusedError):
                raise outcome
            else:
                outcomes.append(outcome)
        return outcomes

    def answer(self, result: Result, wish: Wish) -> Answer:
        """Return caption and tags with confidences."""
        return Answer.of(result, self._confidences[wish.preset or self.pipelines.default])

    def preset_of(self, model: object) -> str:
        """Return the preset that a model's name means: ``autotag``, ``autotag:<preset>`` or ``<preset>``.

        Raises:
            RequestRefusedError: the server has no such model.
        """
        if not isinstance(model, str) or not model:
            raise RequestRefusedError("bad_request", "model is missing; GET /v1/models lists them.")
        name = model.removesuffix(":latest")
        preset = "" if name == MODEL else name.removeprefix(f"{MODEL}:")
        if preset and preset not in self.pipelines.presets:
            known = ", ".join(self.model_names())
            raise RequestRefusedError(
                "not_found", f"model {model[:80]!r} not found; this server has: {known}."
            )
        return preset

    def model_names(self) -> list[str]:
        """Return the names of the models, the default first."""
        return [MODEL, *(f"{MODEL}:{preset}" for preset in self.pipelines.presets)]


def _refusal_of(error: ImageReadError | StageError) -> RequestRefusedError:
    if isinstance(error, StageError):
        return RequestRefusedError("model_failed", f"stage {error.stage!r} failed on the image.")
    kind = "too_large" if isinstance(error, ImageTooLargeError) else "not_an_image"
    return RequestRefusedError(kind, f"the image cannot be read: {error.reason}.")


async def while_waited_for(request: Request, work: Awaitable[Answered]) -> Answered:
    """Return the result of the work; cancel it if the client disconnects.

    Raises:
        ClientGoneError: it hung up.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientGoneError
    finally:
        task.cancel()
        gone.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
