"""Tiny models with random, seeded weights, written as folders: the real classes, loaded the real way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import tokenizers
import torch
import transformers
from safetensors.torch import save_file

SENTENCES = [
    "a photo of a dog that runs on the green grass",
    "two men and a woman look at the blue sky",
    "a red bus in the street of a city at night",
    "the players are all smiles as they walk on the field",
]
SIDE = 32


def words() -> list[str]:
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    return [*specials, *sorted({word for sentence in SENTENCES for word in sentence.split()})]


def randomize(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The same weights each time, large enough that what comes out depends on what goes in."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if "norm" in name.lower():
                parameter.add_(0.02 * noise)
            else:
                parameter.copy_(noise * (3.0 if "language_projection" in name else 0.3))
    return model.eval()


def bert_tokenizer() -> Any:
    tokenizer = transformers.BertTokenizer(vocab={word: index for index, word in enumerate(words())})
    tokenizer.model_max_length = 64
    return tokenizer


def _byte_tokenizer(kind: Any, **specials: Any) -> Any:
    """The same tokenizer each time: training breaks ties by a hash that differs from process to process.

    So no two words are equally frequent, and what is not a special token is numbered in alphabetical order.
    """
    texts = [" ".join([word] * (3 * place**2 + 1)) for place, word in enumerate(words()[5:])]
    trained = kind(**specials).train_new_from_iterator(texts, vocab_size=300)
    state = json.loads(trained.backend_tokenizer.to_str())
    special = {token["content"] for token in state["added_tokens"]}
    vocabulary = state["model"]["vocab"]
    others = sorted(vocabulary.keys() - special)
    numbers = sorted(vocabulary[token] for token in others)
    vocabulary.update(zip(others, numbers, strict=True))
    trained._tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    return trained


def _vision(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": SIDE,
        "patch_size": 8,
        **more,
    }


def _text(**more: Any) -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        **more,
    }


def blip(folder: Path) -> Path:
    tokenizer = bert_tokenizer()
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    config = transformers.BlipConfig(
        vision_config=_vision(initializer_range=0.02),
        text_config=_text(
            vocab_size=len(tokenizer),
            encoder_hidden_size=32,
            bos_token_id=tokenizer.bos_token_id,
            sep_token_id=tokenizer.sep_token_id,
            eos_token_id=tokenizer.sep_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        projection_dim=16,
    )
    processor = transformers.BlipProcessor(
        transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer
    )
    return _saved(transformers.BlipForConditionalGeneration(config), processor, folder)


def git(folder: Path) -> Path:
    tokenizer = bert_tokenizer()
    config = transformers.GitConfig(
        vision_config=_vision(),
        **_text(
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
    )
    processor = transformers.GitProcessor(
        transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer,
    )
    _saved(transformers.GitForCausalLM(config), processor, folder)
    model = transformers.GitForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.output.bias[tokenizer.all_special_ids] -= 8  # or many captions would be empty
    model.save_pretrained(folder)
    return folder


def blip2_opt(folder: Path) -> Path:
    tokenizer = _byte_tokenizer(
        transformers.GPT2Tokenizer, bos_token="</s>", eos_token="</s>", unk_token="</s>", pad_token="<pad>"
    )
    return _blip2(
        folder,
        tokenizer,
        transformers.OPTConfig(
            vocab_size=len(tokenizer) + 1,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=128,
            word_embed_proj_dim=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
    )


def blip2_t5(folder: Path) -> Path:
    pieces = [*(f"▁{word}" for word in words()[5:]), *"▁abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -9.0), *((piece, -2.0) for piece in pieces)]
    tokenizer = transformers.T5Tokenizer(vocab=vocabulary, extra_ids=0)
    return _blip2(
        folder,
        tokenizer,
        transformers.T5Config(
            vocab_size=len(tokenizer) + 1,
            d_model=32,
            d_kv=16,
            d_ff=64,
            num_layers=2,
            num_heads=2,
            decoder_start_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
    )


def _blip2(folder: Path, tokenizer: Any, text_config: Any) -> Path:
    processor = transformers.Blip2Processor(
        transformers.BlipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer, num_query_tokens=4
    )
    config = transformers.Blip2Config(
        vision_config=_vision(),
        qformer_config=_text(vocab_size=50, encoder_hidden_size=32),
        text_config=text_config.to_dict(),
        num_query_tokens=4,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )
    return _saved(transformers.Blip2ForConditionalGeneration(config), processor, folder)


def clip(folder: Path) -> Path:
    tokenizer = _byte_tokenizer(transformers.CLIPTokenizer)
    config = transformers.CLIPConfig(
        vision_config=_vision(),
        text_config=_text(
            vocab_size=len(tokenizer),
            max_position_embeddings=16,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        projection_dim=24,
    )
    processor = transformers.CLIPProcessor(
        transformers.CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer,
    )
    return _saved(transformers.CLIPModel(config), processor, folder)


def siglip(folder: Path) -> Path:
    """With SigLIP 2's tokenizer, as its checkpoints of fixed size have."""
    tokenizer = _byte_tokenizer(transformers.Siglip2Tokenizer)
    config = transformers.SiglipConfig(
        vision_config=_vision(),
        text_config=_text(vocab_size=len(tokenizer), max_position_embeddings=16, projection_size=32),
    )
    processor = transformers.SiglipProcessor(
        transformers.SiglipImageProcessor(size={"height": SIDE, "width": SIDE}), tokenizer
    )
    return _saved(transformers.SiglipModel(config), processor, folder)


def siglip2(folder: Path) -> Path:
    tokenizer = _byte_tokenizer(transformers.Siglip2Tokenizer)
    vision = _vision(num_patches=16)
    del vision["image_size"]
    config = transformers.Siglip2Config(
        vision_config=vision,
        text_config=_text(vocab_size=len(tokenizer), max_position_embeddings=16, projection_size=32),
    )
    processor = transformers.Siglip2Processor(
        transformers.Siglip2ImageProcessor(patch_size=8, max_num_patches=16), tokenizer
    )
    return _saved(transformers.Siglip2Model(config), processor, folder)


def _saved(model: Any, processor: Any, folder: Path) -> Path:
    randomize(model).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def open_clip_folder(
    folder: Path,
    *,
    timm_tower: bool = False,
    attention_pool: bool = False,
    half: bool = False,
    seed: int = 0,
) -> Path:
    vision: dict[str, Any] = {"image_size": SIDE, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    if attention_pool:
        vision = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16}
    if timm_tower:
        vision = {"image_size": 64, "timm_model_name": "resnet10t", "timm_pool": "avg", "timm_proj": "linear"}
    config = {
        "embed_dim": 24,
        "vision_cfg": vision,
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    torch.manual_seed(seed)
    model = open_clip.CustomTextCLIP(**config) if timm_tower else open_clip.CLIP(**config)
    if timm_tower:
        config["custom_text"] = True
    folder.mkdir(parents=True)
    preprocessing = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocessing})
    )
    state = {name: values.contiguous() for name, values in model.state_dict().items()}
    if half:
        state = {
            name: values.half() if values.is_floating_point() else values for name, values in state.items()
        }
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def coca(folder: Path, *, ends: float = 6.0) -> Path:
    """A CoCa of open_clip with the same weights on every machine: numpy keeps its old random numbers.

    Args:
        folder: to write.
        ends: how much likelier than other tokens the end token is, as a logit.
    """
    tower = {"context_length": 40, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
    config = {
        "embed_dim": 32,
        "multimodal_cfg": tower,
        "text_cfg": {**tower, "embed_cls": True, "output_tokens": True},
        "vision_cfg": {
            "image_size": SIDE,
            "layers": 2,
            "width": 32,
            "head_width": 16,
            "patch_size": 8,
            "attentional_pool": True,
            "attn_pooler_queries": 9,
            "attn_pooler_heads": 2,
            "output_tokens": True,
        },
    }
    model = open_clip.CoCa(**config)
    random = np.random.RandomState(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.tensor(random.standard_normal(tuple(parameter.shape)), dtype=torch.float32)
            parameter.copy_(1 + 0.1 * noise if "ln_" in name and "weight" in name else 0.3 * noise)
        decoder = model.text_decoder
        bias = decoder.ln_final.bias
        decoder.text_projection[:, 49407] += ends * bias / bias.square().sum()
    folder.mkdir(parents=True)
    preprocessing = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": preprocessing})
    )
    state = {name: values.contiguous() for name, values in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


def sentence_transformer(folder: Path) -> Path:
    """Static word vectors, the kind of model that is bundled."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    vectors = torch.randn(len(words()), 16, generator=torch.Generator().manual_seed(0))
    module = StaticEmbedding(bert_tokenizer(), embedding_weights=vectors.numpy())
    SentenceTransformer(modules=[module], device="cpu").save(str(folder), create_model_card=False)
    return folder


def older_layout(folder: Path, source: Path) -> Path:
    """The same model in the files that repositories of before transformers 5 hold."""
    folder.mkdir()
    processor: Any = transformers.AutoProcessor.from_pretrained(source)
    image_processor = {**processor.image_processor.to_dict(), "processor_class": type(processor).__name__}
    (folder / "preprocessor_config.json").write_text(json.dumps(image_processor))
    vocabulary = sorted(processor.tokenizer.get_vocab().items(), key=lambda item: item[1])
    (folder / "vocab.txt").write_text(
        "\n".join(word for word, _ in vocabulary if word not in {"[DEC]", "[ENC]"})
    )
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    (folder / "config.json").write_text((source / "config.json").read_text())
    model: Any = transformers.AutoModelForImageTextToText.from_pretrained(source)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    return folder


def florence2(folder: Path) -> Path:
    """64 pixels wide: four image tokens of the last layer, and one for their mean."""
    tokenizer = _byte_tokenizer(transformers.BartTokenizer, extra_special_tokens={"image_token": "<image>"})
    image_processor = transformers.CLIPImageProcessor(size={"height": 64, "width": 64}, do_center_crop=False)
    image_processor.image_seq_length = 5
    specials = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }
    config = transformers.Florence2Config(
        vision_config={
            "depths": [1, 1, 1, 1],
            "embed_dim": [8, 16, 32, 32],
            "num_heads": [2, 2, 2, 2],
            "num_groups": [2, 2, 2, 2],
            "window_size": 4,
            "projection_dim": 32,
            "max_position_embeddings": 8,
            "max_temporal_embeddings": 4,
        },
        text_config={
            "model_type": "bart",
            "vocab_size": len(tokenizer),
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
            **specials,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = transformers.Florence2Processor(
        image_processor, tokenizer, post_processor_config={"pure_text": {}}
    )
    model = transformers.Florence2ForConditionalGeneration(config)
    model.generation_config = transformers.GenerationConfig(  # what the published checkpoints say
        num_beams=3,
        early_stopping=True,
        no_repeat_ngram_size=3,
        forced_bos_token_id=tokenizer.bos_token_id,
        forced_eos_token_id=tokenizer.eos_token_id,
        **specials,
    )
    return _saved(model, processor, folder)


def vit_gpt2(folder: Path) -> Path:
    """With one special token for start, end and padding, as GPT-2 has it; files as before transformers 5."""
    end = "<|endoftext|>"
    tokenizer = _byte_tokenizer(
        transformers.GPT2Tokenizer, bos_token=end, eos_token=end, unk_token=end, pad_token=end
    )
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(**_vision()),
        transformers.GPT2Config(
            vocab_size=len(tokenizer), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0
        ),
    )
    model = transformers.VisionEncoderDecoderModel(config=config)
    randomize(model).save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    settings = json.loads((folder / "config.json").read_text())
    specials = dict.fromkeys(
        ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"), tokenizer.eos_token_id
    )
    (folder / "config.json").write_text(json.dumps({**settings, **specials, "num_beams": 4}))
    transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def idefics3(folder: Path) -> Path:
    """The class of the first SmolVLM: cuts images into tiles of 32 pixels, the more the longer both sides."""
    return _tiling(folder, "Idefics3")


def smolvlm(folder: Path) -> Path:
    """The class of the second SmolVLM, which also knows videos."""
    return _tiling(folder, "SmolVLM", video_processor=transformers.SmolVLMVideoProcessor())


def _tiling(folder: Path, family: str, **more: Any) -> Path:
    tokenizer = _byte_tokenizer(
        transformers.GPT2Tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<|im_end|>",
        unk_token="<|endoftext|>",
        extra_special_tokens={
            "fake_image_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "global_image_token": "<global-img>",
            **{f"tile_{row}_{col}": f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)},
        },
    )
    image_processor = getattr(transformers, f"{family}ImageProcessor")(
        size={"longest_edge": 64}, max_image_size={"longest_edge": SIDE}
    )
    processor = getattr(transformers, f"{family}Processor")(
        image_processor, tokenizer, image_seq_len=4, chat_template=_CHAT.replace("IMAGE", "<image>"), **more
    )
    config = getattr(transformers, f"{family}Config")(
        vision_config=_vision(),
        text_config=_text(
            model_type="llama",
            vocab_size=len(processor.tokenizer),
            max_position_embeddings=1024,
            num_key_value_heads=1,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        scale_factor=2,
        image_token_id=processor.image_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(getattr(transformers, f"{family}ForConditionalGeneration")(config), processor, folder)


def qwen2_5_vl(folder: Path) -> Path:
    """Looks at images in their own shape, so they take different numbers of tokens."""
    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32}
    return _qwen(folder, "Qwen2_5_VL", {**vision, "fullatt_block_indexes": [1], "window_size": 56})


def qwen2_vl(folder: Path) -> Path:
    return _qwen(folder, "Qwen2VL", {"embed_dim": 32, "hidden_size": 32, "mlp_ratio": 2})


def _qwen(folder: Path, family: str, vision: dict[str, Any]) -> Path:
    specials = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
        "im_start": "<|im_start|>",
    }
    tokenizer = _byte_tokenizer(
        transformers.Qwen2Tokenizer,
        extra_special_tokens=specials,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    processor = getattr(transformers, f"{family}Processor")(
        transformers.Qwen2VLImageProcessor(size={"shortest_edge": 28**2, "longest_edge": 6 * 28**2}),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(),
        chat_template=_CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    )
    config = getattr(transformers, f"{family}Config")(
        text_config=_text(
            vocab_size=len(tokenizer),
            max_position_embeddings=512,
            num_key_value_heads=1,
            rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
            bos_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        vision_config={"depth": 2, "num_heads": 2, **vision},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    model = getattr(transformers, f"{family}ForConditionalGeneration")(config)
    model.generation_config = transformers.GenerationConfig(  # what the published checkpoints say
        do_sample=True,
        temperature=0.1,
        top_k=1,
        top_p=0.001,
        repetition_penalty=1.05,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    return _saved(model, processor, folder)
