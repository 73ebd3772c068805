from __future__ import annotations

import pytest
from transformers import AutoTokenizer, BertTokenizer

from autotag.training.text_vocabulary import caption_tokenizer, contrastive_tokenizer, words_in

CAPTIONS = ["a dog runs", "a dog's café .", "A red dog"]


@pytest.fixture
def captions_tokenizer() -> BertTokenizer:
    return caption_tokenizer(CAPTIONS, least=2)


def test_words_are_counted_as_bert_splits_them() -> None:
    counts = {"'": 1, ".": 1, "a": 3, "cafe": 1, "dog": 3, "red": 1, "runs": 1, "s": 1}
    assert words_in(CAPTIONS) == counts
    assert list(words_in(CAPTIONS)) == sorted(counts)


def test_the_end_of_a_text_has_the_highest_id_and_padding_is_0() -> None:
    tokenizer = contrastive_tokenizer(["dog", "runs", "##s"])
    batch = tokenizer(["Dogs run", "dog runs dog"], padding="max_length", max_length=7).input_ids
    end = tokenizer.sep_token_id
    assert end == len(tokenizer) - 1
    assert batch == [[2, 3, 5, 1, end, 0, 0], [2, 3, 4, 3, end, 0, 0]]


def test_a_cut_text_still_ends() -> None:
    tokenizer = contrastive_tokenizer(["dog"])
    ids = tokenizer("dog " * 20, truncation=True, max_length=6).input_ids
    assert len(ids) == 6
    assert ids[-1] == tokenizer.sep_token_id


def test_a_contrastive_tokenizer_gives_a_text_back(tmp_path: object) -> None:
    tokenizer = contrastive_tokenizer(["dog", "run", "##s"])
    assert tokenizer.decode(tokenizer("Dog runs").input_ids, skip_special_tokens=True) == "dog runs"
    tokenizer.save_pretrained(str(tmp_path))
    assert (
        AutoTokenizer.from_pretrained(str(tmp_path))("Dog runs").input_ids == tokenizer("Dog runs").input_ids
    )


def test_frequent_words_are_tokens_and_others_fall_to_letters(captions_tokenizer: BertTokenizer) -> None:
    assert captions_tokenizer.tokenize("a dog") == ["a", "dog"]
    assert captions_tokenizer.tokenize("red") == ["r", "##e", "##d"]
    assert captions_tokenizer.tokenize("7up") == ["7", "##u", "##p"]
    assert captions_tokenizer.decode(captions_tokenizer("a red dog").input_ids[1:-1]) == "a red dog"


def test_blips_own_tokens_are_there(captions_tokenizer: BertTokenizer) -> None:
    assert captions_tokenizer.decode([captions_tokenizer.bos_token_id]) == "[DEC]"
    assert captions_tokenizer.pad_token_id == 0
    assert captions_tokenizer.convert_tokens_to_ids(["[DEC]", "[ENC]"]) == [
        len(captions_tokenizer) - 2,
        len(captions_tokenizer) - 1,
    ]
    assert captions_tokenizer.unk_token_id not in captions_tokenizer("[DEC] a dog [SEP]").input_ids


def test_a_caption_tokenizer_is_the_same_whatever_the_order_of_the_captions() -> None:
    assert (
        caption_tokenizer(CAPTIONS, least=1).get_vocab()
        == caption_tokenizer(CAPTIONS[::-1], least=1).get_vocab()
    )
