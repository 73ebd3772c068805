import io
import json

from autotag.records import Result
from autotag.testing import check_writer, make_samples
from autotag.writers.jsonl_writer import JsonlWriter

RESULTS = [Result.from_sample(sample) for sample in make_samples()]


def test_it_keeps_the_contract_of_a_writer():
    check_writer(JsonlWriter)


def test_each_line_is_one_result():
    stream = io.StringIO()
    writer = JsonlWriter(stream)
    for result in RESULTS:
        writer.write(result)
    writer.close()
    assert [Result.from_dict(json.loads(line)) for line in stream.getvalue().splitlines()] == RESULTS


def test_a_line_reaches_the_file_before_the_next_result_is_there(tmp_path):
    """So that killing the process loses nothing that was written."""
    path = tmp_path / "out.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        writer = JsonlWriter(stream)
        for count, result in enumerate(RESULTS, 1):
            writer.write(result)
            assert len(path.read_text(encoding="utf-8").splitlines()) == count


def test_nothing_written_is_an_empty_file():
    stream = io.StringIO()
    JsonlWriter(stream).close()
    assert stream.getvalue() == ""
