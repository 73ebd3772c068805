"""The limits on how much a server accepts at once."""

from __future__ import annotations

from dataclasses import dataclass

from autotag.config.checks import check_count, check_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limit what a server accepts at once; requests beyond it are refused, with the time to retry after.

    Attributes:
        max_waiting: images and texts in the server: being read, waiting, or in the models. The texts of one
            call alone may be more.
        max_waiting_bytes: bytes of these, encoded and decoded; and of the bodies that arrive. Accepted images
            wait to be decoded until they fit; one image alone may have more.
        max_body_bytes: bytes in the body of one request.
        max_images: images in one request; never more than ``max_waiting``.
        timeout: seconds from the arrival of a request to its answer.
        decode_threads: threads that decode images.
        cached_results: results kept for repeated images; 0 for none.

    Raises:
        ConfigError: a limit is out of range.
    """

    max_waiting: int = 256
    max_waiting_bytes: int = 2**30
    max_body_bytes: int = 32 * 2**20
    max_images: int = 32
    timeout: float = 60.0
    decode_threads: int = 2
    cached_results: int = 1024

    def __post_init__(self) -> None:
        for name in ("max_waiting", "max_waiting_bytes", "max_body_bytes", "max_images", "decode_threads"):
            check_count(f"limits.{name}", getattr(self, name), most=2**40)
        check_count("limits.cached_results", self.cached_results, least=0, most=2**24)
        check_number("limits.timeout", self.timeout, least=0.001, most=86_400.0)

    @property
    def images_at_once(self) -> int:
        """Return how many images or texts one request may have."""
        return min(self.max_images, self.max_waiting)
