from __future__ import annotations

import json
import threading

import pytest

from autotag.pipeline.function_stage import stage
from autotag.pipeline.pipeline import Pipeline
from autotag.pipeline.stats import CONSUMER, READ, Meter
from autotag.records import Caption, Sample
from autotag.testing import make_image


@stage(provides={"captions"})
def scene(sample: Sample) -> None:
    sample.captions.append(Caption("a picture", "scene"))


@stage(requires={"captions"}, provides={"prompt"})
def words(sample: Sample) -> None:
    if sample.size[0] == 3:
        raise ValueError
    sample.prompt = sample.captions[0].text


def test_before_the_first_stream_there_is_nothing() -> None:
    stats = Pipeline([scene]).stats()
    assert (stats.done, stats.failed, stats.seconds, stats.bound_by, stats.stages) == (0, 0, 0.0, "", ())


def test_a_stream_counts_results_errors_and_the_parts_of_the_work() -> None:
    pipeline = Pipeline([scene, words], batch_size=4)
    images = [*(make_image(size=(width, 4)) for width in range(1, 9)), b"no image"]
    results = list(pipeline.stream(images, on_error="record"))
    stats = pipeline.stats()
    assert (stats.done, stats.failed) == (9, 2)
    assert sum(result.error is not None for result in results) == 2
    rows = {row.name: row for row in stats.stages}
    assert list(rows) == ["read", "scene", "words", "consumer"]
    assert [row.thread for row in stats.stages] == ["reading", "models", "consumer", "consumer"]
    assert rows["read"].items == 9
    assert rows["consumer"].items == 9
    assert rows["scene"].items >= 8, "images of a batch that starts over count again"
    assert rows["scene"].batch_size == 4
    assert rows["scene"].queue_mean is not None
    assert stats.bound_by in rows
    assert 0 < stats.seconds < 60


def test_the_time_of_a_stream_that_ended_stands_still() -> None:
    pipeline = Pipeline([scene])
    list(pipeline.stream([make_image()]))
    assert pipeline.stats() == pipeline.stats()


def test_they_can_be_asked_for_in_the_middle() -> None:
    pipeline = Pipeline([scene], batch_size=1)
    stream = pipeline.stream([make_image()] * 3)
    next(stream)
    next(stream)
    assert pipeline.stats().done == 2
    stream.close()  # type: ignore[attr-defined]


def test_they_are_plain_data() -> None:
    pipeline = Pipeline([scene])
    list(pipeline.stream([make_image()]))
    row = json.loads(json.dumps(pipeline.stats().to_dict()))
    assert row["done"] == 1
    assert {"name", "items", "seconds", "per_second", "batch_size", "queue_mean"} <= row["stages"][0].keys()


@pytest.mark.parametrize(
    ("seconds", "binding"),
    [
        ({READ: 8.0, "scene": 3.0, "words": 1.0}, "scene"),
        ({READ: 16.0, "scene": 3.0, "words": 1.0}, READ),
        ({READ: 1.0, "scene": 3.0, "words": 2.0, CONSUMER: 2.5}, CONSUMER),
        ({READ: 1.0, "scene": 2.0, "words": 3.0}, "words"),
    ],
)
def test_the_largest_part_of_the_busiest_thread_binds(seconds: dict[str, float], binding: str) -> None:
    parts = [(READ, "reading"), ("scene", "models"), ("words", "consumer"), (CONSUMER, "consumer")]
    meter = Meter(parts, readers=4)  # type: ignore[arg-type]
    for name, busy in seconds.items():
        meter.add(name, 10, busy)
    assert meter.stats().bound_by == binding


def test_queues_have_a_mean_and_a_last_value() -> None:
    meter = Meter([("scene", "models")])
    for waiting in (1, 2, 6):
        meter.look("scene", waiting)
    (row,) = meter.stats().stages
    assert (row.queue_mean, row.queue_last) == (3.0, 6)


def test_counts_from_several_threads_add_up() -> None:
    meter = Meter([(READ, "reading")], readers=4)

    def work() -> None:
        for _ in range(2_000):
            meter.add(READ, 1, 0.5)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (row,) = meter.stats().stages
    assert (row.items, row.seconds, row.per_second) == (8_000, 4_000.0, 2.0)
