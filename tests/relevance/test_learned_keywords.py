from __future__ import annotations

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from autotag.errors import ConfigError
from autotag.relevance.learned_keywords import LearnedKeyword, LearnedKeywords


def keyword(*path, threshold=0.5):
    return LearnedKeyword(path, 12, 0.8, 0.6, 0.9, threshold)


@pytest.fixture
def learned():
    return LearnedKeywords(
        encoder="clip-mini@1",
        photographs=40,
        keywords=(keyword("Orte", "Jūrmala", "пляж"), keyword("dog", threshold=0.9)),
        weights=np.array([[4, 0], [0, 4]], dtype=np.float32),
        biases=np.array([-2, -2], dtype=np.float32),
        declined_vectors=np.zeros((0, 2), dtype=np.float32),
        declined_keywords=np.zeros(0, dtype=np.int64),
        learned="2026-11-29",
        version="1.0",
        encoder_name="clip-mini",
    )


def test_a_file_comes_back_as_it_was(learned, tmp_path):
    learned.save(tmp_path / "family.tags")
    again = LearnedKeywords.load(tmp_path / "family.tags")
    assert again.keywords == learned.keywords
    assert again.encoder_name == "clip-mini"
    assert (again.encoder, again.photographs, again.learned, again.version) == (
        "clip-mini@1", 40, "2026-11-29", "1.0",
    )  # fmt: skip
    assert (again.weights == learned.weights).all()
    assert (again.biases == learned.biases).all()


def test_probabilities_are_cut_by_each_keyword_s_own_threshold(learned):
    vectors = np.array([[1, 0], [0, 1], [0.5, 0.5]], dtype=np.float32)
    found, proposed = learned.suggested(vectors)
    assert found[0] == pytest.approx([0.8808, 0.1192], abs=1e-4)
    assert proposed.tolist() == [[True, False], [False, False], [True, False]]


def test_a_declined_keyword_is_not_proposed_near_where_it_was_declined(learned):
    declining = replace(
        learned,
        declined_vectors=np.array([[1, 0]], dtype=np.float32),
        declined_keywords=np.array([0], dtype=np.int64),
    )
    near, far = np.array([[0.99, 0.14]]), np.array([[0.8, -0.6]])
    vectors = np.concatenate([near, far]).astype(np.float32)
    assert learned.suggested(vectors)[1][:, 0].tolist() == [True, True]
    assert declining.suggested(vectors)[1][:, 0].tolist() == [False, True]


def test_any_changed_byte_is_found(learned, tmp_path):
    file = tmp_path / "family.tags"
    learned.save(file)
    content = file.read_bytes()
    for place in range(0, len(content), 7):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        with pytest.raises(ConfigError, match=r"family\.tags"):
            LearnedKeywords.load(file)
    for length in (0, 5, 200, len(content) - 1):
        file.write_bytes(content[:length])
        with pytest.raises(ConfigError, match=r"family\.tags"):
            LearnedKeywords.load(file)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="there is no file .*autotag learn"):
        LearnedKeywords.load(tmp_path / "none.tags")
    with pytest.raises(ConfigError, match="cannot read"):
        LearnedKeywords.load(tmp_path)
    other = tmp_path / "other.tags"
    for content in (b"PK\x03\x04", b"\x02\0\0\0\0\0\0\0{}", b"\xff" * 64, b"\x80\x04\x95pickle"):
        other.write_bytes(content)
        with pytest.raises(ConfigError, match="not a file of `autotag learn`"):
            LearnedKeywords.load(other)


def test_a_newer_format_says_what_to_do(learned, tmp_path):
    file = tmp_path / "family.tags"
    learned.save(file)
    content = file.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    entry = json.loads(header["__metadata__"]["autotag"])
    card = {**json.loads(entry["card"]), "format": 2}
    header["__metadata__"]["autotag"] = json.dumps({**entry, "card": json.dumps(card)})
    written = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
    with pytest.raises(ConfigError, match="format 2.*update autotag"):
        LearnedKeywords.load(file)


def test_another_encoder_is_refused_with_the_way_out(learned):
    learned.check_encoder("clip-mini@1", file="family.tags")
    with pytest.raises(
        ConfigError, match=r"'family\.tags' was learned with encoder 'clip-mini' .*autotag learn"
    ):
        learned.check_encoder("clip-vit-b-32", file="family.tags")
