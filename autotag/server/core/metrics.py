"""Metrics of a server, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from autotag.server.core.batcher import BatchDone, Batcher


class Metrics:
    """Counts for one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "autotag_requests", "Requests answered.", ["protocol", "code"], registry=self.registry
        )
        self.seconds = Histogram(
            "autotag_request_seconds", "Seconds from request to answer.", ["protocol"], registry=self.registry
        )
        self.errors = Counter("autotag_errors", "Requests refused.", ["kind"], registry=self.registry)
        self._sizes = Histogram(
            "autotag_batch_size",
            "Images per batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self._queue = Histogram(
            "autotag_queue_seconds", "Seconds that images waited.", registry=self.registry
        )
        self._stages = Counter(
            "autotag_stage_seconds", "Seconds that stages worked.", ["stage"], registry=self.registry
        )
        self._failed = Counter("autotag_failed_images", "Images a stage failed on.", registry=self.registry)
        self._depth = Gauge(
            "autotag_queue_depth", "Images read, waiting or worked on.", registry=self.registry
        )
        self._bytes = Gauge("autotag_queue_bytes", "Bytes of those images.", registry=self.registry)

    def watch(self, batcher: Batcher) -> None:
        """Read the depth of the batcher's queue whenever somebody asks."""
        self._depth.set_function(lambda: float(batcher.waiting))
        self._bytes.set_function(lambda: float(batcher.waiting_bytes))

    def count_batch(self, batch: BatchDone) -> None:
        """Count a batch; called in the threads that work."""
        self._sizes.observe(batch.size)
        self._failed.inc(batch.failed)
        for seconds in batch.queue_seconds:
            self._queue.observe(seconds)
        for stage, seconds in batch.stage_seconds.items():
            self._stages.labels(stage).inc(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
