"""Tiny translators of real classes, which learn a few sentences by heart when a test first asks for them."""

from __future__ import annotations

import json
from io import BytesIO

import pytest
import sentencepiece
import torch
import transformers

ENGLISH = ("a dog on the beach", "two cats sleep", "a red bus", "the woman reads a book")
GERMAN = ("ein Hund am Strand", "zwei Katzen schlafen", "ein roter Bus", "die Frau liest ein Buch")
FRENCH = ("un chien sur la plage", "deux chats dorment", "un bus rouge", "la femme lit un livre")
_SIZES = {
    "d_model": 48, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64,
    "dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
}  # fmt: skip


def sentencepiece_model(texts):
    written = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([*texts] * 4), model_writer=written, vocab_size=90, hard_vocab_limit=False,
        model_type="unigram", minloglevel=2,
    )  # fmt: skip
    return written.getvalue()


def pieces(model):
    loaded = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [loaded.id_to_piece(number) for number in range(3, loaded.get_piece_size())]


def taught(model, batches):
    """Train until the sentences are known; a batch is tokens of texts, of targets, and what begins them."""
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    model.train()
    for _ in range(150):
        loss = sum(model(**inputs).loss for inputs in batches)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def batch(tokenizer, texts, targets):
    inputs = tokenizer(texts, text_target=targets, padding=True, return_tensors="pt")
    inputs["labels"][inputs["labels"] == tokenizer.pad_token_id] = -100
    return inputs


def marian(folder, pairs, *, languages=(), **sides):
    """A model of OPUS-MT's kind: English texts to texts in one language, or in several with tokens."""
    folder.mkdir()
    source = sentencepiece_model(ENGLISH)
    target = sentencepiece_model([text for _, texts in pairs for text in texts])
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    words = list(dict.fromkeys(["</s>", "<unk>", *pieces(source), *pieces(target), *languages, "<pad>"]))
    vocabulary = {piece: number for number, piece in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = transformers.MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json"), **sides
    )
    pad = vocabulary["<pad>"]
    torch.manual_seed(0)
    config = transformers.MarianConfig(
        **_SIZES, vocab_size=len(vocabulary), pad_token_id=pad, eos_token_id=0, decoder_start_token_id=pad,
        forced_eos_token_id=0, bad_words_ids=None, scale_embedding=True,
    )  # fmt: skip
    batches = [
        batch(tokenizer, [f"{token} {text}".strip() for text in ENGLISH], list(texts))
        for token, texts in pairs
    ]
    taught(transformers.MarianMTModel(config), batches).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def english_to_german(tmp_path_factory):
    pairs = [("", GERMAN)]
    return marian(tmp_path_factory.mktemp("marian") / "en-de", pairs, source_lang="en", target_lang="de")


@pytest.fixture(scope="session")
def english_to_several(tmp_path_factory):
    pairs = [(">>de<<", GERMAN), (">>fr<<", FRENCH)]
    return marian(tmp_path_factory.mktemp("marian") / "en-mul", pairs, languages=(">>de<<", ">>fr<<"))


@pytest.fixture(scope="session")
def m2m100(tmp_path_factory):
    folder = tmp_path_factory.mktemp("m2m100") / "m2m100-tiny"
    folder.mkdir()
    model = sentencepiece_model((*ENGLISH, *GERMAN, *FRENCH))
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    words = ["<s>", "<pad>", "</s>", "<unk>", *pieces(model)]
    vocabulary = {piece: number for number, piece in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    tokenizer = transformers.M2M100Tokenizer(
        str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"), src_lang="en", tgt_lang="de"
    )
    torch.manual_seed(0)
    config = transformers.M2M100Config(**_SIZES, vocab_size=len(words) + 100 + 8, scale_embedding=True)
    batches = []
    for language, texts in (("de", GERMAN), ("fr", FRENCH)):
        tokenizer.tgt_lang = language
        batches.append(batch(tokenizer, list(ENGLISH), list(texts)))
    taught(transformers.M2M100ForConditionalGeneration(config), batches).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sentences():
    return {"en": list(ENGLISH), "de": list(GERMAN), "fr": list(FRENCH)}
