from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from numbered_server import Numbers, numbered_png

import autotag
from autotag.errors import ConfigError, ImageReadError, PipelineClosedError, RequestRefusedError, StageError
from autotag.images.decode_memory import KEPT_BYTES
from autotag.server.core.batcher import BatchDone, Batcher
from autotag.server.core.limits import Limits
from autotag.server.core.wishes import Pipelines, Wish
from autotag.stages import EmbedImages
from autotag.testing import FakeEncoder

EXAMPLES = Path(__file__).resolve().parents[3] / "docs" / "examples"


def run(
    numbers: Numbers,
    test: Callable[[Batcher], Awaitable[None]],
    limits: Limits | None = None,
    told: list[BatchDone] | None = None,
) -> None:
    async def all_of_it() -> None:
        done: list[BatchDone] = [] if told is None else told
        with numbers.pipeline() as pipeline:
            batcher = Batcher(
                Pipelines({"numbers": pipeline}), limits or Limits(cached_results=0), tell=done.append
            )
            try:
                await test(batcher)
            finally:
                numbers.gate.set()
                await asyncio.to_thread(batcher.close)
            assert (batcher.waiting, batcher.waiting_bytes) == (0, 0)

    asyncio.run(all_of_it())


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():
            await asyncio.sleep(0.005)


def test_every_caller_gets_the_answer_of_its_own_image(numbers: Numbers) -> None:
    told: list[BatchDone] = []

    async def test(batcher: Batcher) -> None:
        results = await asyncio.gather(*(batcher.tag(numbered_png(n), source=f"s{n}") for n in range(150)))
        assert [result.caption for result in results] == [f"number {n}" for n in range(150)]
        assert [result.source for result in results] == [f"s{n}" for n in range(150)]

    run(numbers, test, told=told)
    assert sum(batch.size for batch in told) == 150
    assert max(len(batch) for batch in numbers.batches) == 4


def test_the_first_image_does_not_wait_for_others_and_those_that_come_meanwhile_share_a_batch(
    numbers: Numbers,
) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        first = asyncio.create_task(batcher.tag(numbered_png(0)))
        await until(numbers.entered.is_set)
        rest = [asyncio.create_task(batcher.tag(numbered_png(n))) for n in range(1, 4)]
        await until(lambda: batcher.waiting == 4)
        await asyncio.sleep(0.2)
        numbers.gate.set()
        await asyncio.gather(first, *rest)

    run(numbers, test)
    assert numbers.batches[0] == [0]
    assert sorted(numbers.batches[1]) == [1, 2, 3]


def test_a_bad_image_fails_alone(numbers: Numbers) -> None:
    numbers.poison = frozenset({2})

    async def test(batcher: Batcher) -> None:
        pictures = [numbered_png(0), b"no picture", numbered_png(1), numbered_png(2), numbered_png(3)]
        answers = await asyncio.gather(*map(batcher.tag, pictures), return_exceptions=True)
        assert isinstance(answers[1], ImageReadError)
        assert isinstance(answers[3], StageError)
        assert [answer.caption for answer in answers if isinstance(answer, autotag.records.Result)] == [
            "number 0", "number 1", "number 3",
        ]  # fmt: skip

    run(numbers, test)


def test_a_pipeline_that_fails_on_every_image_answers_and_goes_on(numbers: Numbers) -> None:
    numbers.poison = frozenset(range(20))

    async def test(batcher: Batcher) -> None:
        answers = await asyncio.gather(
            *(batcher.tag(numbered_png(n)) for n in range(20)), return_exceptions=True
        )
        assert all(isinstance(answer, StageError) for answer in answers)
        assert (await batcher.tag(numbered_png(21))).caption == "number 21"

    run(numbers, test)


def test_a_full_queue_refuses_and_says_when_to_come_again(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        taken = [asyncio.create_task(batcher.tag(numbered_png(n))) for n in range(3)]
        await until(lambda: batcher.waiting == 3)
        with pytest.raises(RequestRefusedError) as refused:
            await batcher.tag(numbered_png(9))
        assert refused.value.kind == "overloaded"
        assert refused.value.retry_after is not None
        assert refused.value.retry_after >= 1
        numbers.gate.set()
        assert [result.caption for result in await asyncio.gather(*taken)] == [
            "number 0", "number 1", "number 2",
        ]  # fmt: skip

    run(numbers, test, Limits(max_waiting=3, cached_results=0))


def test_the_queue_is_bounded_by_bytes_but_one_image_always_fits(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        first = asyncio.create_task(batcher.tag(numbered_png(0)))
        await until(numbers.entered.is_set)
        with pytest.raises(RequestRefusedError) as refused:
            await batcher.tag(numbered_png(1))
        assert refused.value.kind == "overloaded"
        numbers.gate.set()
        assert (await first).caption == "number 0"

    run(numbers, test, Limits(max_waiting_bytes=100, cached_results=0))


@pytest.mark.parametrize("most_bytes", [1, 3000])
def test_images_that_do_not_fit_together_when_decoded_wait_for_each_other(
    numbers: Numbers, most_bytes: int
) -> None:
    async def test(batcher: Batcher) -> None:
        images = [numbered_png(number) for number in range(32)]
        results = await batcher.tag_batch(images, Wish(), sources=[""] * 32)
        assert [getattr(result, "caption", result) for result in results] == [
            f"number {n}" for n in range(32)
        ]

    run(numbers, test, Limits(max_waiting_bytes=most_bytes, cached_results=0))


def test_only_the_pixels_of_a_decoded_image_are_counted(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        first = asyncio.create_task(batcher.tag(numbered_png(0)))
        await until(numbers.entered.is_set)
        assert batcher.waiting_bytes == len(numbered_png(0)) + 8 * 8 * KEPT_BYTES
        numbers.gate.set()
        await first

    run(numbers, test)


@pytest.mark.parametrize("end", ["timeout", "cancel", "close"])
def test_an_image_that_waits_for_room_ends_with_its_call_or_the_server(numbers: Numbers, end: str) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        images = [numbered_png(number) for number in range(4)]
        timeout = 0.2 if end == "timeout" else None
        task = asyncio.create_task(batcher.tag_batch(images, Wish(), sources=[""] * 4, timeout=timeout))
        await until(numbers.entered.is_set)
        if end == "cancel":
            task.cancel()
            await asyncio.wait({task})
        elif end == "close":
            closing = asyncio.create_task(asyncio.to_thread(batcher.close))
            await until(lambda: batcher.waiting < 4)
            numbers.gate.set()
            await closing
            await asyncio.wait({task})
        else:
            assert {getattr(error, "kind", error) for error in await task} == {"timed_out"}
        assert (batcher.waiting, batcher.waiting_bytes) == (0, 0)
        numbers.gate.set()
        if end != "close":
            assert (await batcher.tag(numbered_png(5))).caption == "number 5"

    run(numbers, test, Limits(max_waiting_bytes=1, cached_results=0))


def test_an_image_whose_time_is_up_or_whose_caller_left_is_not_shown_to_the_models(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        first = asyncio.create_task(batcher.tag(numbered_png(0)))
        await until(numbers.entered.is_set)
        left = asyncio.create_task(batcher.tag(numbered_png(1)))
        await until(lambda: batcher.waiting == 2)
        with pytest.raises(RequestRefusedError) as refused:
            await batcher.tag(numbered_png(2), timeout=0.2)
        assert refused.value.kind == "timed_out"
        left.cancel()
        await until(lambda: batcher.waiting == 1)
        numbers.gate.set()
        await first
        assert (await batcher.tag(numbered_png(3))).caption == "number 3"

    run(numbers, test)
    assert numbers.batches == [[0], [3]]


def test_the_same_image_again_comes_from_the_cache_under_its_own_name(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        first = await batcher.tag(numbered_png(5), source="a")
        again = await batcher.tag(numbered_png(5), source="b")
        caption_only = await batcher.tag(numbered_png(5), Wish(task="caption"))
        assert (first.source, again.source, again.tags) == ("a", "b", first.tags)
        assert caption_only.caption == "number 5"

    run(numbers, test, Limits(cached_results=2))
    assert numbers.batches == [[5], [5]]


def test_a_result_that_a_caller_changes_is_not_changed_for_others(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        for _ in range(3):  # the first is made, the others come from the cache
            result = await batcher.tag(numbered_png(5))
            assert result.source == "<bytes>"
            assert (result.extras, dict(result.tags[0].scores)) == ({}, {"numbers": 0.5})
            result.extras["mine"] = 1
            result.tags[0].scores["mine"] = 1  # type: ignore[index]

    run(numbers, test, Limits())
    assert numbers.batches == [[5]]


def test_images_of_one_call_are_admitted_together_or_not_at_all(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        first = asyncio.create_task(batcher.tag(numbered_png(0)))
        await until(numbers.entered.is_set)
        images = [numbered_png(number) for number in range(1, 5)]
        with pytest.raises(RequestRefusedError) as refused:
            await batcher.tag_batch(images, Wish(), sources=list("abcd"))
        assert (refused.value.kind, batcher.waiting) == ("overloaded", 1)
        fits = asyncio.create_task(batcher.tag_batch([*images[:2], b"none"], Wish(), sources=list("abc")))
        left = asyncio.create_task(batcher.tag_batch(images[:0], Wish(), sources=[]))
        await until(lambda: batcher.waiting >= 3)
        numbers.gate.set()
        *results, error = await fits
        assert [result.caption for result in results] == ["number 1", "number 2"]  # type: ignore[union-attr]
        assert isinstance(error, ImageReadError)
        assert await left == []
        await first

    run(numbers, test, Limits(max_waiting=4, cached_results=0))


def test_a_cancelled_call_gives_all_its_images_back(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        images = [numbered_png(number) for number in range(8)]
        task = asyncio.create_task(batcher.tag_batch(images, Wish(), sources=[""] * 8))
        await until(numbers.entered.is_set)
        task.cancel()
        await asyncio.wait({task})
        assert (batcher.waiting, batcher.waiting_bytes) == (0, 0)

    run(numbers, test)


def test_a_batcher_that_drains_answers_what_it_took_and_takes_nothing_more(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        numbers.gate.clear()
        taken = [asyncio.create_task(batcher.tag(numbered_png(n))) for n in range(6)]
        await until(lambda: batcher.waiting == 6)
        draining = asyncio.create_task(batcher.drain(10))
        await asyncio.sleep(0.05)
        with pytest.raises(RequestRefusedError) as refused:
            await batcher.tag(numbered_png(7))
        assert refused.value.kind == "not_ready"
        numbers.gate.set()
        assert await draining
        assert len(await asyncio.gather(*taken)) == 6

    run(numbers, test)


def test_a_wish_that_the_preset_cannot_grant_is_refused_with_the_reason(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        for wish, words in (
            (Wish(top_k=3), "top_k"),
            (Wish(vocabulary="things"), "vocabulary"),
            (Wish(task="prompt"), "prompt"),
            (Wish(preset="other"), "numbers"),
        ):
            with pytest.raises(RequestRefusedError, match=words):
                await batcher.tag(numbered_png(1), wish)

    run(numbers, test)


def test_threads_end_with_the_batcher(numbers: Numbers) -> None:
    async def test(batcher: Batcher) -> None:
        await batcher.tag(numbered_png(1))

    run(numbers, test)
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("autotag-b", "autotag-d"))
    ]


@pytest.mark.slow
def test_serve_async_gives_what_the_pipeline_gives_and_shares_its_models_between_wishes() -> None:
    files = [EXAMPLES / "cat.jpg", EXAMPLES / "rocket.jpg", EXAMPLES / "coffee.jpg"]

    async def served() -> list[autotag.records.Result]:
        async with autotag.serve_async("mini") as tagger:
            results = list(await asyncio.gather(*(tagger.tag(file) for file in files)))
            results.append(await tagger.tag(files[0], top_k=1))
            results.append(await tagger.tag(files[0], labels=["cat", "rocket"]))
            with pytest.raises(ConfigError, match="labels is the text 'cat'"):
                await tagger.tag(files[0], labels="cat")
        with pytest.raises(PipelineClosedError):
            await tagger.tag(files[0])
        return results

    *results, one_tag, allowed = asyncio.run(served())
    with autotag.load("mini") as pipeline:
        alone = [pipeline(file) for file in files]
    assert [result.source for result in results] == [str(file) for file in files]
    assert [result.caption for result in results] == [result.caption for result in alone]
    assert [[tag.text for tag in result.tags] for result in results] == [
        [tag.text for tag in result.tags] for result in alone
    ]
    assert [tag.text for tag in one_tag.tags] == [alone[0].tags[0].text]
    assert [tag.text for tag in allowed.tags] == ["cat"]


@pytest.mark.slow
def test_pipelines_that_share_models_use_the_same_objects() -> None:
    with autotag.load("mini") as pipeline:
        other = pipeline.sharing_models(pipeline.stages[:1])
        other.load()
        with pipeline.exclusive_encoder() as encoder:
            pass
        other.close()
        assert pipeline(EXAMPLES / "cat.jpg").caption  # closing the other did not close the models
        third = pipeline.sharing_models(pipeline.stages)
        with third.exclusive_encoder() as shared:
            assert shared is encoder


def test_texts_are_counted_bounded_and_timed_as_images_are() -> None:
    embedding = Wish(task="embedding")

    async def test(batcher: Batcher, pipeline: autotag.Pipeline) -> None:
        with (
            pipeline.exclusive_encoder() as encoder
        ):  # as a batch in the models does, this holds the texts up
            entered = encoder.embed_texts(["a cat"])[0].tolist()
            first = asyncio.create_task(batcher.embed_texts(["a cat", "a dog"], embedding))
            await until(lambda: batcher.waiting == 2)
            with pytest.raises(RequestRefusedError) as full:
                await batcher.embed_texts(["a car", "a bus"], embedding)
            assert (full.value.kind, full.value.retry_after) == ("overloaded", 1)
            with pytest.raises(RequestRefusedError) as late:
                await batcher.embed_texts(["a car"], embedding, timeout=0.1)
            assert late.value.kind == "timed_out"
            left = asyncio.create_task(batcher.embed_texts(["a bus"], embedding))
            await until(lambda: batcher.waiting == 3)
            with pytest.raises(RequestRefusedError) as heavy:
                await batcher.embed_texts(["x" * 2**20], embedding)
            assert heavy.value.kind == "overloaded"
            left.cancel()
            await until(lambda: batcher.waiting == 2)
        assert (await first)[0] == pytest.approx(entered, abs=1e-6)
        await batcher.drain(5)
        with pytest.raises(RequestRefusedError) as closed:
            await batcher.embed_texts(["a car"], embedding)
        assert closed.value.kind == "not_ready"
        assert (batcher.waiting, batcher.waiting_bytes) == (0, 0)

    async def all_of_it() -> None:
        with autotag.Pipeline([EmbedImages()], encoder=FakeEncoder()) as pipeline:
            limits = Limits(max_waiting=3, max_waiting_bytes=2**20)
            batcher = Batcher(Pipelines({"fake": pipeline}), limits)
            try:
                await batcher.pipelines.of(embedding)
                await test(batcher, pipeline)
            finally:
                await asyncio.to_thread(batcher.close)

    asyncio.run(all_of_it())
