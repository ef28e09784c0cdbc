"""CLIP's two towers: images to patch tokens, words to token embeddings.

The networks of Radford et al. 2021 (arXiv 2103.00020) as OpenAI and OpenCLIP publish them, from ViT-B/32 to ViT-H/14,
built from a transformers `config.json`. The text tower conditions Stable Diffusion; the patch tokens of the vision
tower are what the global token extractor sees of a clip.

    tower = VisionTower(VisionConfig(image_size=64, patch_size=16, hidden_size=128, ...), rngs=nnx.Rngs(0))
    tokens = tower(preprocess(frames, 64))        # [N, 72, 96, 3] in [-1, 1] -> [N, 16, 128]

Stable Diffusion 2 takes the text tower's penultimate output, through the final norm. Its original files hold all 24
layers (our config then says `skip_layers` 1); the `text_encoder/` of its diffusers folder has the last one cut off.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.errors import UserError
from gp_jax.models.attention import attend, merge_heads, split_heads
from gp_jax.models.layers import layer_norm

Array = jax.Array

# Of the pixels in [0, 1] that CLIP was trained on; OpenCLIP uses the same.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

ACTIVATIONS = {
    "gelu": lambda x: nnx.gelu(x, approximate=False),
    "quick_gelu": lambda x: x * nnx.sigmoid(1.702 * x),
}


def preprocess(pixels: Array, size: int) -> Array:
    """[N, H, W, 3] in [-1, 1] -> [N, size, size, 3] normalised for CLIP; bicubic, antialiased, the aspect not kept."""
    shape = (pixels.shape[0], size, size, pixels.shape[-1])
    resized = jax.image.resize(pixels.astype(jnp.float32), shape, "cubic", antialias=True)
    return ((jnp.clip(resized, -1.0, 1.0) + 1.0) / 2.0 - jnp.array(MEAN)) / jnp.array(STD)


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The keys of transformers' `CLIPVisionConfig` that change the network, with its defaults.

    `projection_dim` None: no projection.
    """

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int | None = 512

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "VisionConfig":
        """Reads the `config.json` of a vision tower or of a whole CLIP; raises UserError on an unknown activation."""
        return cls(**_read(cls, config, "vision_config"))

    def to_json(self) -> dict[str, Any]:
        """A `config.json` that transformers reads."""
        return _write(self, "CLIPVisionModel", "clip_vision_model")

    @property
    def patches(self) -> int:
        """Tokens per image."""
        return (self.image_size // self.patch_size) ** 2


@dataclasses.dataclass(frozen=True)
class TextConfig:
    """The keys of transformers' `CLIPTextConfig` that change the network, with its defaults, and one of ours.

    `projection_dim` None: no projection. `skip_layers`: layers at the end that token embeddings do not pass through.
    """

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    projection_dim: int | None = 512
    eos_token_id: int = 49407
    skip_layers: int = 0

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "TextConfig":
        """Reads the `config.json` of a text tower or of a whole CLIP; raises UserError on an unknown activation."""
        return cls(**_read(cls, config, "text_config"))

    def to_json(self) -> dict[str, Any]:
        """A `config.json` that transformers reads."""
        return _write(self, "CLIPTextModel", "clip_text_model")


class VisionTower(nnx.Module):
    """A vision transformer with a class token, learned positions and a norm before the first layer."""

    def __init__(self, config: VisionConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.config = config
        width, patch = config.hidden_size, (config.patch_size, config.patch_size)
        init = nnx.initializers.normal(width**-0.5)
        self.class_embedding = nnx.Param(init(rngs.params(), (width,)))
        self.position_embedding = nnx.Param(init(rngs.params(), (config.patches + 1, width)))
        self.patch_embedding = nnx.Conv(
            config.num_channels, width, patch, strides=patch, padding="VALID", use_bias=False, dtype=dtype, rngs=rngs
        )
        self.pre_norm = layer_norm(width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.layers = _layers(config, rngs, dtype)
        self.final_norm = layer_norm(width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.projection = _projection(config, rngs, dtype)

    def __call__(self, pixels: Array, *, final_norm: bool = True) -> Array:
        """Patch tokens.

        Args:
          pixels: [N, S, S, 3] from `preprocess`, S = config.image_size.
          final_norm: OpenCLIP's tokens; False gives transformers' `last_hidden_state`.

        Returns:
          [N, P, D], row by row from the top left.
        """
        tokens = self._encode(pixels)[:, 1:]
        return self.final_norm(tokens) if final_norm else tokens

    def pooled(self, pixels: Array) -> Array:
        """[N, S, S, 3] -> the image embedding [N, projection_dim], not normalised; [N, D] without projection."""
        return _project(self.projection, self.final_norm(self._encode(pixels)[:, 0]))

    def _encode(self, pixels: Array) -> Array:
        patches = self.patch_embedding(pixels)
        n, *_, width = patches.shape
        class_token = jnp.broadcast_to(self.class_embedding.astype(patches.dtype), (n, 1, width))
        x = jnp.concatenate([class_token, patches.reshape(n, -1, width)], axis=1)
        x = self.pre_norm(x + self.position_embedding.astype(x.dtype))
        for layer in self.layers:
            x = layer(x)
        return x


class TextTower(nnx.Module):
    """A causal transformer over byte-pair tokens."""

    def __init__(self, config: TextConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.config = config
        width = config.hidden_size
        init = nnx.initializers.normal(0.02)
        self.token_embedding = nnx.Embed(config.vocab_size, width, embedding_init=init, dtype=dtype, rngs=rngs)
        self.position_embedding = nnx.Param(init(rngs.params(), (config.max_position_embeddings, width)))
        self.layers = _layers(config, rngs, dtype)
        self.final_norm = layer_norm(width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.projection = _projection(config, rngs, dtype)

    def __call__(self, ids: Array) -> Array:
        """Token embeddings after the final norm: [B, L] int, L at most max_position_embeddings -> [B, L, D]."""
        return self._encode(ids, len(self.layers) - self.config.skip_layers)

    def pooled(self, ids: Array) -> Array:
        """[B, L] -> the text embedding [B, projection_dim] of all layers, not normalised, at the end-of-text token."""
        # Configs older than transformers 4.31 say 2 and mean the largest id: the vocabulary ends with end-of-text.
        end = ids if self.config.eos_token_id == 2 else ids == self.config.eos_token_id
        tokens = self._encode(ids, len(self.layers))
        return _project(self.projection, tokens[jnp.arange(ids.shape[0]), jnp.argmax(end, axis=-1)])

    def _encode(self, ids: Array, layers: int) -> Array:
        length = ids.shape[1]
        x = self.token_embedding(ids)
        x = x + self.position_embedding[:length].astype(x.dtype)
        causal = jnp.tril(jnp.ones((length, length), bool))
        for layer in self.layers[:layers]:
            x = layer(x, causal)
        return self.final_norm(x)


class TransformerLayer(nnx.Module):
    """Self-attention and a two-layer perceptron, each behind a norm and beside a skip connection."""

    def __init__(self, config: VisionConfig | TextConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        width, hidden = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.activation = config.hidden_act
        self.norm1 = layer_norm(width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.query = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(width, width, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(width, epsilon=config.layer_norm_eps, dtype=dtype, rngs=rngs)
        self.expand = nnx.Linear(width, hidden, dtype=dtype, rngs=rngs)
        self.contract = nnx.Linear(hidden, width, dtype=dtype, rngs=rngs)

    def __call__(self, x: Array, mask: Array | None = None) -> Array:
        """Args: x: [B, S, D]. mask: bool [S, S], True where a query sees a key. Returns: [B, S, D]."""
        y = self.norm1(x)[:, None]
        query, key, value = (split_heads(linear(y), self.heads) for linear in (self.query, self.key, self.value))
        x = x + self.output(merge_heads(attend(query, key, value, mask=mask)))[:, 0]
        return x + self.contract(ACTIVATIONS[self.activation](self.expand(self.norm2(x))))


def _layers(config: VisionConfig | TextConfig, rngs: nnx.Rngs, dtype: DTypeLike | None) -> nnx.List:
    return nnx.List(TransformerLayer(config, rngs=rngs, dtype=dtype) for _ in range(config.num_hidden_layers))


def _projection(config: VisionConfig | TextConfig, rngs: nnx.Rngs, dtype: DTypeLike | None) -> nnx.Linear | None:
    if config.projection_dim is None:
        return None
    return nnx.Linear(config.hidden_size, config.projection_dim, use_bias=False, dtype=dtype, rngs=rngs)


def _project(projection: nnx.Linear | None, x: Array) -> Array:
    return x if projection is None else projection(x)


def _read(cls: type, config: Mapping[str, Any], part: str) -> dict[str, Any]:
    """The fields of `cls` in a transformers config; a whole CLIP keeps them, but for the projection, in `part`."""
    whole = part in config
    fields = {**config[part], "projection_dim": config.get("projection_dim", 512)} if whole else config
    known = {f.name: fields[f.name] for f in dataclasses.fields(cls) if f.name in fields}
    # A bare tower's config has a projection width too, but no projection.
    if not whole and any(name in ("CLIPVisionModel", "CLIPTextModel") for name in config.get("architectures") or ()):
        known["projection_dim"] = None
    if (activation := known.get("hidden_act", cls.hidden_act)) not in ACTIVATIONS:
        raise UserError(f"CLIP config: hidden_act={activation!r} is not supported, only {', '.join(ACTIVATIONS)}")
    return known


def _write(config: VisionConfig | TextConfig, name: str, model_type: str) -> dict[str, Any]:
    projection = "" if config.projection_dim is None else "WithProjection"
    fields = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
    return {"architectures": [name + projection], "model_type": model_type, **fields}
