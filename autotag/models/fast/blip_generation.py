"""A generation loop for BLIP that writes the same captions as transformers' ``generate``, faster.

There are three differences. The cache of the self-attention is allocated once instead of growing. Finished
captions leave the batch. And the keys and values of an image need not be projected: with ``q`` a query,
``x_n`` the states of the image and ``W`` the projections, ``q . (Wk x_n + bk)`` is ``(Wk^T q) . x_n`` plus a
constant that cancels in the softmax, and ``sum_n p_n (Wv x_n + bv)`` is ``Wv (sum_n p_n x_n) + bv``. This
"absorbed" attention reads the states themselves, which the beams of an image share, and costs less than
projecting them while few tokens are written for each image. (The algebra is that of multi-head latent
attention, DeepSeek-V2, arXiv:2405.04434, section 2.1.2.)

The search (``beam_search``) is that of ``GenerationMixin._beam_search`` of transformers 5 with its defaults:
length penalty 1, no early stopping.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers
from torch import nn
from torch.nn import functional

from autotag.config.fast_paths import say_not_used
from autotag.models.fast.beam_search import Beams, BeamSearch, penalised
from autotag.models.fast.cross_attention import (
    CrossAttention,
    CrossLayer,
    attend_to_words,
    by_head,
    cheaper_attention,
)
from autotag.models.fast.key_value_cache import KeyValueCache
from autotag.models.fast.packed_linears import linear_of
from autotag.protocols import CaptionOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import BlipForConditionalGeneration

_TYPICAL_TOKENS = 14
"""Typical length of a caption, to estimate the cost of a call."""
_TOKENS_AT_ONCE = 1200
"""Image tokens that a CPU encodes at a time: about as many as its caches hold."""
_TOLERANCE = 1e-3
_NEUTRAL = {"bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id", "transformers_version"}
"""Settings of a generation config that do not change the captions of this loop; nor does ``use_cache``."""


@dataclass(frozen=True, slots=True)
class Written:
    """Generated captions, with the field names of transformers.

    Attributes:
        sequences: (B * captions per image, T) int64, prompts included, padded on the right.
        sequences_scores: (B * captions per image,) float32 mean log-probabilities; None without beam search.
    """

    sequences: torch.Tensor
    sequences_scores: torch.Tensor | None


class BlipGenerator(nn.Module):
    """Write captions with the weights of a BLIP, shared with the model. See ``blip_generator``.

    Args:
        model: in eval mode, on its device. The projections of its self-attention become parts of one weight.
        packed: whether the attention to images may use oneDNN's product, see ``packed_attention``.
    """

    def __init__(self, model: BlipForConditionalGeneration, *, packed: bool = False) -> None:
        super().__init__()
        self._packed = packed
        self._vision: list[Any] = [model.vision_model]  # in a list, so that it is not a submodule
        self._decoder = BlipDecoder(model.text_decoder)

    def fits(self, inputs: Mapping[str, torch.Tensor], options: CaptionOptions) -> bool:
        """Return whether the loop supports these inputs and options; if not, use ``generate``.

        It does not support a minimum number of tokens, more positions than the model has, prompts of
        different lengths, or more beams than half the vocabulary.
        """
        length = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
        return (
            length + options.max_new_tokens <= self._decoder.max_length
            and not options.min_new_tokens
            and 2 * options.num_beams <= self._decoder.vocabulary_size
            and bool("attention_mask" not in inputs or inputs["attention_mask"].all())
        )

    def write(self, inputs: Mapping[str, torch.Tensor], options: CaptionOptions) -> Written:
        """Return the captions of images, best first for each.

        Args:
            inputs: those of ``generate`` that ``fits`` accepts: ``pixel_values`` (B, 3, H, W), on the model's
                device and in its dtype, and optionally ``input_ids`` (B, P) from [CLS] to [SEP].
            options: options that ``fits`` accepts.
        """
        states = self._encoded(inputs["pixel_values"])
        prompt = self._prompt(inputs, len(states))
        seen = self._seen(states, prompt, options)
        if options.num_beams > 1:
            return _by_beams(self._decoder, seen, prompt, options)
        return Written(_greedy(self._decoder, seen, prompt, options), None)

    def _seen(self, states: torch.Tensor, prompt: torch.Tensor, options: CaptionOptions) -> CrossAttention:
        """Return the attention to images that is cheaper for captions of typical length."""
        tokens = prompt.shape[1] - 1 + options.num_beams * min(options.max_new_tokens, _TYPICAL_TOKENS)
        return self._decoder.attend_to(states, tokens, packed=self._packed)

    def _prompt(self, inputs: Mapping[str, torch.Tensor], count: int) -> torch.Tensor:
        """Return the (B, P) int64 prompt: BLIP's start token, then the input tokens without [SEP]."""
        if "input_ids" not in inputs:
            return torch.full((count, 1), self._decoder.start, device=inputs["pixel_values"].device)
        return functional.pad(inputs["input_ids"][:, 1:-1], (1, 0), value=self._decoder.start)

    def _encoded(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Return the (B, N, E) states of the images."""
        tower = self._vision[0]
        at_once = len(pixel_values)
        if pixel_values.device.type == "cpu":
            at_once = max(1, _TOKENS_AT_ONCE // tower.embeddings.num_positions)
        parts = [tower(pixel_values=some).last_hidden_state for some in torch.split(pixel_values, at_once)]
        return torch.cat(parts) if len(parts) > 1 else cast("torch.Tensor", parts[0])


def blip_generator(model: BlipForConditionalGeneration, *, packed: bool = False) -> BlipGenerator | None:
    """Return the generator for a model; None, after one warning, if its captions would differ."""
    fault = _config_fault(model) or _fault()
    if fault is not None:
        say_not_used("blip_generation", fault)
        return None
    return BlipGenerator(model, packed=packed)


class _Layer(nn.Module):
    """A layer of the text decoder, made of the modules of transformers' ``BlipTextLayer``."""

    def __init__(self, plain: Any) -> None:
        super().__init__()
        attention, cross = plain.attention, plain.crossattention
        self.heads = attention.self.num_attention_heads
        self.qkv = _fused([attention.self.query, attention.self.key, attention.self.value])
        self.attention_output, self.attention_norm = attention.output.dense, attention.output.LayerNorm
        self.cross_query, self.cross_key, self.cross_value = (
            cross.self.query,
            cross.self.key,
            cross.self.value,
        )
        self.cross_output, self.cross_norm = cross.output.dense, cross.output.LayerNorm
        self.widen, self.activation = plain.intermediate.dense, plain.intermediate.intermediate_act_fn
        self.narrow, self.norm = plain.output.dense, plain.output.LayerNorm
        encoded = self.cross_key.in_features
        self.key_weight = self.cross_key.weight.detach().view(self.heads, -1, encoded)
        self.value_weight = self.cross_value.weight.detach().view(self.heads, -1, encoded).mT
        self.value_bias = self.cross_value.bias.detach()

    def forward(
        self, rows: torch.Tensor, index: int, cache: KeyValueCache, images: CrossAttention
    ) -> torch.Tensor:
        """Map (R, T, W) to (R, T, W): attention to the words so far, then to the image, then the MLP."""
        rows = self.attention_norm(self.attention_output(self._to_words(rows, index, cache)) + rows)
        rows = self.cross_norm(self.cross_output(self._to_images(rows, index, images)) + rows)
        return cast("torch.Tensor", self.norm(self.narrow(self.activation(self.widen(rows))) + rows))

    def _to_words(self, rows: torch.Tensor, index: int, cache: KeyValueCache) -> torch.Tensor:
        count, new, width = rows.shape
        query, key_value = self.qkv(rows).split((width, 2 * width), dim=-1)
        keys, values = cache.layer(index, key_value)
        seen = attend_to_words(by_head(query, self.heads), keys, values, None)
        return seen.transpose(1, 2).reshape(count, new, width)

    def _to_images(self, rows: torch.Tensor, index: int, images: CrossAttention) -> torch.Tensor:
        query = self.cross_query(rows)
        by_image = query.view(images.count, -1, self.heads, query.shape[-1] // self.heads)
        return images.attend(index, by_image).view_as(query)


class BlipDecoder(nn.Module):
    """Compute the next token's logits from the tokens so far and the images.

    Args:
        plain: transformers' ``BlipTextLMHeadModel``.
    """

    def __init__(self, plain: Any) -> None:
        super().__init__()
        embeddings, config = plain.bert.embeddings, plain.config
        self.words, self.positions = embeddings.word_embeddings, embeddings.position_embeddings
        self.norm = embeddings.LayerNorm
        self.layers = nn.ModuleList(_Layer(layer) for layer in plain.bert.encoder.layer)
        self.head = plain.cls
        self.width: int = config.hidden_size
        self.max_length: int = config.max_position_embeddings
        self.vocabulary_size: int = config.vocab_size
        self.start: int = config.bos_token_id
        self.end: int = config.sep_token_id
        self.padding: int = config.pad_token_id

    def attend_to(self, states: torch.Tensor, tokens: int, *, packed: bool) -> CrossAttention:
        """Return the attention to (B, N, E) states of images, see ``cheaper_attention``."""
        return cheaper_attention(states, self.cross_layers, tokens=tokens, packed=packed)

    @property
    def cross_layers(self) -> list[CrossLayer]:
        """Return the layers that attend to images."""
        return [cast("CrossLayer", layer) for layer in self.layers]

    def new_cache(self, length: int, rows: int) -> KeyValueCache:
        """Return an empty cache for ``length`` tokens in ``rows`` rows."""
        return KeyValueCache(length, rows, len(self.layers), self.width, self.norm.weight)

    def forward(self, tokens: torch.Tensor, cache: KeyValueCache, images: CrossAttention) -> torch.Tensor:
        """Read (R, T) int64 new tokens; return the (R, V) float32 logits of the next token."""
        new = tokens.shape[1]
        rows = self.norm(self.words(tokens) + cache.places(self.positions.weight, new))
        for index, layer in enumerate(self.layers):
            rows = layer(rows, index, cache, images)
        cache.grow(new)
        return cast("torch.Tensor", self.head(rows[:, -1]).float())


def _greedy(
    decoder: BlipDecoder, images: CrossAttention, prompt: torch.Tensor, options: CaptionOptions
) -> torch.Tensor:
    """Return (B, T) int64 captions by greedy search; finished captions leave the batch."""
    count, start = prompt.shape
    cache = decoder.new_cache(start + options.max_new_tokens, count)
    written = functional.pad(prompt, (0, options.max_new_tokens), value=decoder.padding)
    rows, tokens = torch.arange(count, device=prompt.device), prompt
    for length in range(start, written.shape[1]):
        logits = decoder(tokens, cache, images)
        if options.repetition_penalty != 1.0:
            logits = penalised(logits, written[rows, :length], options.repetition_penalty)
        chosen = logits.argmax(-1)
        written[rows, length] = chosen
        going = (chosen != decoder.end).nonzero().squeeze(1)
        if not len(going):
            return written[:, : length + 1]
        if len(going) < len(rows):
            rows, chosen = rows[going], chosen[going]
            cache.take(going)
            images.take(going)
        tokens = chosen[:, None]
    return written


class _Writing:
    """Give ``BeamSearch`` a decoder with its cache and images."""

    def __init__(self, decoder: BlipDecoder, cache: KeyValueCache, images: CrossAttention) -> None:
        self._decoder, self._cache, self._images = decoder, cache, images

    def next_logits(self, tokens: torch.Tensor) -> torch.Tensor:
        """Read (R, T) int64 new tokens; return the (R, V) float32 logits of the next token."""
        return cast("torch.Tensor", self._decoder(tokens, self._cache, self._images))

    def take(self, rows: torch.Tensor, images: torch.Tensor | None = None) -> None:
        """Replace row i by row ``rows[i]``, and image i by image ``images[i]`` (None: images stay)."""
        self._cache.take(rows)
        if images is not None:
            self._images.take(images)


def _by_beams(
    decoder: BlipDecoder, images: CrossAttention, prompt: torch.Tensor, options: CaptionOptions
) -> Written:
    """Return the best captions of all images, with their scores, by beam search."""
    (count, start), most = prompt.shape, options.max_new_tokens
    cache = decoder.new_cache(start + most, count * options.num_beams)
    cache.start(count)

    def score(logits: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        return penalised(logits.log_softmax(-1), written, options.repetition_penalty)

    beams = Beams(options.num_beams, most, decoder.end, score)
    found = BeamSearch(_Writing(decoder, cache, images), prompt, beams).run()
    tokens, scores, lengths = (
        best[:, : options.num_captions].flatten(0, 1) for best in (found.tokens, found.scores, found.lengths)
    )
    filler = decoder.padding or decoder.end  # as in transformers
    tokens.masked_fill_(torch.arange(most, device=tokens.device) >= lengths[:, None], filler)
    prompts = prompt.repeat_interleave(options.num_captions, dim=0)
    return Written(torch.cat([prompts, tokens[:, : int(lengths.max())]], dim=1), scores)


@torch.no_grad()
def _fused(linears: list[nn.Linear]) -> nn.Linear:
    """Return one layer with the concatenated outputs of these; their weights become parts of its weight."""
    weight = torch.cat([linear.weight for linear in linears])
    for linear, part in zip(linears, weight.chunk(len(linears)), strict=True):
        linear.weight = nn.Parameter(part, requires_grad=False)
    return linear_of(weight, torch.cat([linear.bias for linear in linears]))


def _config_fault(model: Any) -> str | None:
    """Return the settings of a model that this loop does not support, in words, or None."""
    config, decoder = model.config.text_config, model.text_decoder
    settings = decoder.generation_config.to_diff_dict()
    unknown = sorted(
        name
        for name, value in settings.items()
        if name not in _NEUTRAL
        and not name.startswith(("_", "output_", "return_", "use_cache"))
        and value is not None
    )
    if unknown:
        return f"the model's generation config sets {', '.join(unknown)}"
    if config.chunk_size_feed_forward or not config.is_decoder:
        return "the model's text decoder is not a decoder, or is chunked"
    return None


@lru_cache(maxsize=1)
def _fault() -> str | None:
    """Return why this loop does not fit the installed transformers, tested on a tiny model, or None."""
    version = f"transformers {transformers.__version__}"
    try:
        for beams in (1, 3):
            if not _writes_the_same(beams):
                return f"{version} writes other captions with num_beams={beams}"
    except (AttributeError, TypeError, ValueError, RuntimeError, LookupError) as error:
        return f"the text decoder of {version} has another structure: {error}"
    return None


@torch.inference_mode()
def _writes_the_same(beams: int) -> bool:
    """Return whether ``generate`` and this loop write the same captions with a tiny model."""
    model = _tiny_model()
    inputs = {
        "pixel_values": torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1)),
        "input_ids": torch.tensor([[1, 5, 6, 2]]).repeat(3, 1),
    }
    options = CaptionOptions(max_new_tokens=8, num_beams=beams, num_captions=beams)
    expected = model.generate(
        **{name: values.clone() for name, values in inputs.items()},
        max_new_tokens=8,
        num_beams=beams,
        num_return_sequences=beams,
        do_sample=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    given = BlipGenerator(model).write(inputs, options)
    if not torch.equal(given.sequences, expected.sequences):
        return False
    return given.sequences_scores is None or torch.allclose(
        given.sequences_scores, expected.sequences_scores, atol=_TOLERANCE
    )


def _tiny_model() -> Any:
    """Return a BLIP with seeded weights whose captions differ and end; keep torch's own random state."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    config = transformers.BlipConfig(
        vision_config={**sizes, "image_size": 12, "patch_size": 2},
        text_config={
            **sizes,
            **special,
            "vocab_size": 12,
            "encoder_hidden_size": 16,
            "max_position_embeddings": 16,
        },
        projection_dim=8,
    )
    with torch.random.fork_rng(devices=[]):
        model: Any = transformers.BlipForConditionalGeneration(config)
        model.eval()
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name.lower():
                parameter.normal_(std=1.5 if "crossattention" in name else 0.5, generator=generator)
        model.text_decoder.cls.predictions.decoder.bias[special["sep_token_id"]] += 2
    return model
