import io
import json

import pytest

from autotag.records import Result
from autotag.testing import check_writer, make_samples
from autotag.writers.json_writer import JsonWriter

RESULTS = [Result.from_sample(sample) for sample in make_samples()]


def test_it_keeps_the_contract_of_a_writer():
    check_writer(JsonWriter)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_whole_is_one_array_however_many_results(count):
    stream = io.StringIO()
    writer = JsonWriter(stream)
    for result in RESULTS[:count]:
        writer.write(result)
    writer.close()
    assert [Result.from_dict(row) for row in json.loads(stream.getvalue())] == RESULTS[:count]


def test_results_are_written_as_they_come_and_not_kept():
    stream = io.StringIO()
    writer = JsonWriter(stream)
    for result in RESULTS:
        before = len(stream.getvalue())
        writer.write(result)
        assert result.source in stream.getvalue()[before:]
