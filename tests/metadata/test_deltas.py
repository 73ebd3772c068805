import json
import random

from autotag.metadata.deltas import delta_between, delta_from_json, delta_to_json, own_bytes, rebuilt


def test_what_was_there_before_is_rebuilt_from_random_edits():
    chance = random.Random(5)  # noqa: S311 - the same every time
    for _ in range(300):
        earlier = chance.randbytes(chance.randint(0, 3000))
        later = earlier
        for _ in range(chance.randint(0, 4)):
            at = chance.randint(0, len(later))
            later = later[:at] + chance.randbytes(chance.randint(0, 50)) + later[at + chance.randint(0, 40) :]
        delta = delta_between(later, earlier)
        assert rebuilt(later, delta) == earlier
        assert delta_from_json(json.loads(json.dumps(delta_to_json(delta)))) == delta


def test_a_small_edit_of_a_large_file_costs_few_bytes():
    earlier = random.Random(1).randbytes(1_000_000)  # noqa: S311 - the same every time
    later = earlier[:100] + b"new" * 1000 + earlier[140:]
    assert own_bytes(delta_between(later, earlier)) == 40


def test_a_large_part_that_only_moved_costs_few_bytes():
    pixels = random.Random(2).randbytes(1_000_000)  # noqa: S311 - the same every time
    earlier = b"head" + pixels + b"directory" * 20
    later = b"HEAD" + b"directory" * 25 + pixels + b"other"
    assert own_bytes(delta_between(later, earlier)) < 2000
    assert rebuilt(later, delta_between(later, earlier)) == earlier


def test_nothing_and_everything():
    assert rebuilt(b"", delta_between(b"", b"abc")) == b"abc"
    assert rebuilt(b"abc", delta_between(b"abc", b"")) == b""
    assert rebuilt(b"abc", delta_between(b"abc", b"abc")) == b"abc"
