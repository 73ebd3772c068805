"""The parts of causal text towers, in one form for open_clip's and transformers' CLIP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class CausalLayer:
    """A pre-norm transformer layer: ``h += out(attention(qkv(h)))``, then ``h += mlp(h)``.

    Attributes:
        queries: (M, D) hidden states -> (M, D) queries.
        keys_and_values: (M, D) hidden states -> keys and values, (M, D) each.
        out: (M, D) attended values -> (M, D), added to the hidden states.
        mlp: (M, D) hidden states -> (M, D), added to them; includes its norm.
    """

    queries: Map
    keys_and_values: Callable[[Tensor], tuple[Tensor, Tensor]]
    out: Map
    mlp: Map


@dataclass(frozen=True)
class CausalTower:
    """A text tower in which a token does not see later ones, and that pools at the end token.

    Attributes:
        embed: token ids and positions, (M,) each -> (M, D) hidden states.
        layers: in order.
        finish: (N, D) hidden states of end tokens -> (N, E) text vectors, not normalised.
        heads: number of attention heads.
        context_length: number of positions.
        device: the device of the tower.
    """

    embed: Callable[[Tensor, Tensor], Tensor]
    layers: tuple[CausalLayer, ...]
    finish: Map
    heads: int
    context_length: int
    device: torch.device


@runtime_checkable
class HasCausalTower(Protocol):
    """An encoder that gives access to the parts of its text tower, for ``prompt_chain``."""

    @property
    def causal_tower(self) -> CausalTower | str:
        """Return the tower, or the reason why it cannot be used."""
        ...


def causal_tower(encoder: object) -> CausalTower | str:
    """Return the text tower of an encoder, or the reason why it is not available."""
    if isinstance(encoder, HasCausalTower):
        return encoder.causal_tower
    return f"{type(encoder).__name__} does not show its text tower"


def open_clip_tower(model: Any) -> CausalTower | str:
    """Return the text tower of a model made by open_clip, or the reason why it is not supported."""
    from open_clip.model import CLIP
    from open_clip.transformer import ResidualAttentionBlock, TextTransformer

    tower = getattr(model, "text", model)
    if type(tower) not in {CLIP, TextTransformer}:
        return f"the text tower is a {type(tower).__name__}"
    blocks = list(tower.transformer.resblocks)
    if any(type(block) is not ResidualAttentionBlock for block in blocks):
        return f"the text tower has layers of the kind {type(blocks[0]).__name__}"
    pooling = getattr(tower, "pool_type", None) or getattr(tower, "text_pool_type", None)
    if getattr(tower, "cls_emb", None) is not None or pooling not in {"argmax", "eos"}:
        return "the text tower does not pool at the end token"
    length = tower.positional_embedding.shape[0]
    if not _is_causal(tower.attn_mask, length):
        return "the text tower is not causal"
    kind = tower.transformer.get_cast_dtype()

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        vectors: Tensor = tower.token_embedding(ids).to(kind) + tower.positional_embedding[positions].to(kind)
        return vectors

    def finish(states: Tensor) -> Tensor:
        """Return the vectors of the last states, normalised and projected."""
        states = cast("Tensor", tower.ln_final(states))
        if tower.text_projection is None:
            return states
        linear = isinstance(tower.text_projection, torch.nn.Linear)
        vectors: Tensor = tower.text_projection(states) if linear else states @ tower.text_projection
        return vectors

    layers = tuple(_open_clip_layer(block) for block in blocks)
    device = tower.positional_embedding.device
    return CausalTower(embed, layers, finish, blocks[0].attn.num_heads, length, device)


def _is_causal(mask: Tensor | None, length: int) -> bool:
    if mask is None or mask.shape != (length, length):
        return False
    causal = torch.full((length, length), float("-inf")).triu_(1)
    return bool(torch.equal(mask.float().cpu(), causal))


def _open_clip_layer(block: Any) -> CausalLayer:
    project = _projections(block.attn)

    def keys_and_values(states: Tensor) -> tuple[Tensor, Tensor]:
        states = block.ln_1(states)
        return project(1, states), project(2, states)

    return CausalLayer(
        queries=lambda states: project(0, block.ln_1(states)),
        keys_and_values=keys_and_values,
        out=lambda attended: block.ls_1(block.attn.out_proj(attended)),
        mlp=lambda states: block.ls_2(block.mlp(block.ln_2(states))),
    )


def _projections(attention: Any) -> Callable[[int, Tensor], Tensor]:
    """Return a function that projects states to queries (0), keys (1) or values (2)."""

    def project(which: int, states: Tensor) -> Tensor:
        rows = slice(which * attention.embed_dim, (which + 1) * attention.embed_dim)
        bias = attention.in_proj_bias
        return torch.nn.functional.linear(
            states, attention.in_proj_weight[rows], None if bias is None else bias[rows]
        )

    return project


def clip_tower(model: Any) -> CausalTower | str:
    """Return the text tower of a CLIP of transformers, or the reason why it is not supported."""
    if model.config.model_type != "clip":
        return f"the text tower of {model.config.model_type} is not causal"
    tower, projection = model.text_model, model.text_projection
    config = model.config.text_config

    def embed(ids: Tensor, positions: Tensor) -> Tensor:
        tokens, places = tower.embeddings.token_embedding(ids), tower.embeddings.position_embedding(positions)
        vectors: Tensor = tokens + places
        return vectors

    return CausalTower(
        embed,
        tuple(_hf_layer(layer) for layer in tower.encoder.layers),
        lambda states: projection(tower.final_layer_norm(states)),
        config.num_attention_heads,
        config.max_position_embeddings,
        tower.embeddings.position_embedding.weight.device,
    )


def _hf_layer(layer: Any) -> CausalLayer:
    attention = layer.self_attn

    def keys_and_values(states: Tensor) -> tuple[Tensor, Tensor]:
        states = layer.layer_norm1(states)
        return attention.k_proj(states), attention.v_proj(states)

    return CausalLayer(
        queries=lambda states: attention.q_proj(layer.layer_norm1(states)),
        keys_and_values=keys_and_values,
        out=attention.out_proj,
        mlp=lambda states: layer.mlp(layer.layer_norm2(states)),
    )
