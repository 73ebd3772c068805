"""Captions, phrases and labels in their own language through the whole pipeline, with tiny models."""

from __future__ import annotations

import json

import open_clip
import pytest
import transformers

from autotag.pipeline.pipeline import Pipeline
from autotag.records import Caption
from autotag.stages import CaptionImages, ExtractKeyphrases, FilterTags, MatchVocabulary, MergeTags
from autotag.vocabularies.vocabulary import Vocabulary

pytestmark = pytest.mark.slow

CAPTIONS = {
    "de": ("ein Hund am Strand", "ein Foto von {}", {"Hund", "Strand"}),
    "fr": ("un chien sur la plage", "une photo de {}", {"chien", "plage"}),
    "es": ("un perro en la playa", "una foto de {}", {"perro", "playa"}),
    "it": ("un cane sulla spiaggia", "una foto di {}", {"cane", "spiaggia"}),
    "pt": ("um cachorro na praia", "uma foto de {}", {"cachorro", "praia"}),
    "nl": ("een hond op het strand", "een foto van {}", {"hond", "strand"}),
}


class Says:
    """A captioner that knows one sentence."""

    def __init__(self, text):
        self.text = text

    def caption(self, images, /, options):
        return [[Caption(self.text, "says")] for _ in images]


@pytest.fixture(scope="module")
def xlm_roberta(tmp_path_factory):
    """A tiny XLM-R with a tokenizer of its own class, which reads all six languages."""
    folder = tmp_path_factory.mktemp("xlm") / "roberta"
    texts = [text for text, *_ in CAPTIONS.values()]
    tokenizer = transformers.XLMRobertaTokenizer().train_new_from_iterator(texts * 20, vocab_size=200)
    tokenizer.model_max_length = 128
    tokenizer.save_pretrained(folder)
    config = transformers.XLMRobertaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=130, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    transformers.XLMRobertaModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def xlm_clip(tiny, xlm_roberta, tmp_path_factory):
    """A CLIP of open_clip with XLM-R as its text tower, as xlm-roberta-base-ViT-B-32 is."""
    folder = tiny.open_clip_folder(tmp_path_factory.mktemp("clip") / "xlm")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes((xlm_roberta / name).read_bytes())
    whole = json.loads((folder / "open_clip_config.json").read_text())
    text = {
        "hf_model_name": "someone/xlm", "hf_tokenizer_name": "someone/xlm", "hf_proj_type": "mlp",
        "hf_pooler_type": "mean_pooler", "context_length": 24,
    }  # fmt: skip
    local = {**text, "hf_model_name": str(folder), "hf_model_pretrained": False}
    model = open_clip.CustomTextCLIP(**{**whole["model_cfg"], "text_cfg": local})
    state = {name: values.contiguous() for name, values in model.state_dict().items()}
    tiny.save_file(state, folder / "open_clip_model.safetensors")
    whole["model_cfg"]["text_cfg"] = text
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    return folder


@pytest.mark.parametrize("encoder", ["siglip2", "xlm_clip"])
def test_phrases_and_labels_of_six_languages_are_scored_natively(
    encoder, request, tiny_folder, xlm_roberta, images
):
    folder = request.getfixturevalue(encoder) if encoder == "xlm_clip" else tiny_folder(encoder)
    for language, (caption, template, nouns) in CAPTIONS.items():
        things = Vocabulary.bundled("things").translations[language]
        labels = [things[label] for label in ("cat", "bicycle", "mountain")]
        stages = [
            CaptionImages(Says(caption)),
            ExtractKeyphrases(str(xlm_roberta), stop_words=language),
            MatchVocabulary(Vocabulary(labels, template=template), top_k=3),
            MergeTags(vocabulary=None, plural=False, substring=False),
            FilterTags(
                score="standardised", threshold=-100.0, template=template, language=language, top_k=None
            ),
        ]
        with Pipeline(stages, encoder=str(folder), device="cpu") as pipeline:
            results = pipeline(images[:2])
        for result in results:
            assert {*nouns, *labels} <= set(result.tag_texts), (language, result.tag_texts)
            scores = [tag.score for tag in result.tags]
            assert scores == sorted(scores, reverse=True)
            assert len(set(scores)) > len(scores) // 2, "the texts are told apart"
