"""Builds small WordPiece tokenizers for the mini models, which transformers loads from a folder."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import BertTokenizer, PreTrainedTokenizerFast


def words_in(texts: Iterable[str]) -> dict[str, int]:
    """Count words and punctuation marks, split as BERT splits, lower-case without accents; sorted by word."""
    normalizer, splitter = normalizers.BertNormalizer(lowercase=True), pre_tokenizers.BertPreTokenizer()
    counts: dict[str, int] = {}
    for text in texts:
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text)):
            counts[word] = counts.get(word, 0) + 1
    return dict(sorted(counts.items()))


def contrastive_tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer of ``[CLS] text [SEP]``; ``[SEP]`` has the highest id, where CLIP's tower pools."""
    vocabulary = {token: index for index, token in enumerate(["[PAD]", "[UNK]", "[CLS]", *tokens, "[SEP]"])}
    tokenizer = _wordpiece(vocabulary)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]


def caption_tokenizer(texts: Iterable[str], *, least: int, besides: Iterable[str] = ()) -> BertTokenizer:
    """Return a BERT tokenizer of the words used at least ``least`` times, and of all words in ``besides``.

    Other words are spelt by letters. As in BLIP (Li et al., 2022), ``[DEC]`` starts a caption and ``[SEP]``
    ends it.
    """
    words = [word for word, count in words_in(texts).items() if count >= least]
    words += words_in(besides)
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)] + list("0123456789")
    pieces = dict.fromkeys([*letters, *(f"##{letter}" for letter in letters), *words])
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces, "[DEC]", "[ENC]"]
    tokenizer = BertTokenizer(vocab={token: index for index, token in enumerate(tokens)}, do_lower_case=True)
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    return tokenizer


def _wordpiece(vocabulary: dict[str, int]) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # noqa: S106  (not a password)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer
