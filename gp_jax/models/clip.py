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
from gp_jax.json_config import Foreign, one_for_all, one_of, read_fields, short, within, write_fields
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


# Of both towers: what transformers' configs hold that changes nothing here.
_FIXED = {"chunk_size_feed_forward": (0, None), "is_encoder_decoder": (False,), "pruned_heads": ({}, None)}
_IGNORED = ("attention_dropout", "dropout", "initializer_factor", "initializer_range")
# These say what the file is, or how words are generated, which no tower does; they are not written back.
COMMENTS = (
    *("architectures", "dtype", "id2label", "label2id", "logit_scale_init_value", "model_type", "num_labels"),
    *("output_attentions", "output_hidden_states", "problem_type", "return_dict", "tie_word_embeddings", "torch_dtype"),
    *(
        "torchscript",
        "transformers_version",
        "use_bfloat16",
        "use_cache",
        "gradient_checkpointing",
        "diversity_penalty",
    ),
    *("do_sample", "early_stopping", "encoder_no_repeat_ngram_size", "length_penalty", "max_length", "min_length"),
    *("no_repeat_ngram_size", "num_beam_groups", "num_beams", "num_return_sequences", "repetition_penalty"),
    *("temperature", "top_k", "top_p", "typical_p"),
)
CLIP_VISION = Foreign(fixed=_FIXED, ignored=_IGNORED)
CLIP_TEXT = Foreign(fixed=_FIXED, ignored=(*_IGNORED, "bos_token_id", "pad_token_id"))


@dataclasses.dataclass(frozen=True)
class VisionConfig:
    """The keys of transformers' `CLIPVisionConfig` that change the network, with its defaults.

    `projection_dim` None: no projection. `carried`: see json_config.
    """

    hidden_size: int = within(768, 1, 8192)
    intermediate_size: int = within(3072, 1, 32768)
    num_hidden_layers: int = within(12, 1, 128)
    num_attention_heads: int = within(12, 1, 1024)
    num_channels: int = within(3, 3, 3)
    image_size: int = within(224, 1, 1024)
    patch_size: int = within(32, 1, 1024)
    hidden_act: str = one_of("quick_gelu", ACTIVATIONS)
    layer_norm_eps: float = within(1e-5, 1e-12, 1)
    projection_dim: int | None = within(512, 1, 8192)
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "VisionConfig":
        """Reads the `config.json` of a vision tower or of a whole CLIP; raises UserError where it cannot be meant."""
        fields = _tower(config, "vision_config", ("CLIPVisionModel", "clip_vision_model"))
        fields |= {key: one_for_all(fields[key], 2) for key in ("image_size", "patch_size") if key in fields}
        made = _whole_heads(read_fields(cls, fields, CLIP_VISION, "CLIP vision config"))
        if made.patch_size > made.image_size:
            raise UserError(
                f"CLIP vision config: patch_size={made.patch_size} is more than image_size={made.image_size}"
            )
        return made

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
    `carried`: see json_config.
    """

    vocab_size: int = within(49408, 1, 2**20)
    hidden_size: int = within(512, 1, 8192)
    intermediate_size: int = within(2048, 1, 32768)
    num_hidden_layers: int = within(12, 1, 128)
    num_attention_heads: int = within(8, 1, 1024)
    max_position_embeddings: int = within(77, 1, 4096)
    hidden_act: str = one_of("quick_gelu", ACTIVATIONS)
    layer_norm_eps: float = within(1e-5, 1e-12, 1)
    projection_dim: int | None = within(512, 1, 8192)
    eos_token_id: int = within(49407, 0, 2**20)
    skip_layers: int = within(0, 0, 127)
    carried: str = "{}"

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "TextConfig":
        """Reads the `config.json` of a text tower or of a whole CLIP; raises UserError where it cannot be meant."""
        fields = _tower(config, "text_config", ("CLIPTextModel", "clip_text_model"))
        made = _whole_heads(read_fields(cls, fields, CLIP_TEXT, "CLIP text config"))
        if made.skip_layers >= made.num_hidden_layers:
            raise UserError(f"CLIP text config: skip_layers={made.skip_layers} leaves none of {made.num_hidden_layers}")
        return made

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


def _tower(config: Mapping[str, Any], part: str, names: tuple[str, str]) -> dict[str, Any]:
    """A tower's keys in a transformers config, comments taken out; a whole CLIP keeps them, but for the projection, in
    `part`. `names`: of the tower's class, and of its type."""
    what, (class_name, model_type) = f"CLIP {part.replace('_', ' ')}", names
    whole = config.get("model_type") == "clip" or part in config
    if (kind := config.get("model_type")) not in (None, "clip", model_type):
        raise UserError(f"{what}: model_type={short(kind)} is not supported, only {model_type}")
    written_by = config.get("architectures") or []
    known = ("CLIPModel", class_name, f"{class_name}WithProjection")
    if not isinstance(written_by, list | tuple) or any(name not in known for name in written_by):
        raise UserError(f"{what}: architectures={short(written_by)} is not supported, only {', '.join(known)}")
    fields = dict(config)
    if whole:
        # Old files say it twice, and the second counts.
        parts = [config.get(name) or {} for name in (part, f"{part}_dict")]
        if not all(isinstance(value, Mapping) for value in parts):
            raise UserError(f"{what}: it is {short(parts[0])}; it must be an object")
        fields = {**parts[0], **parts[1], "projection_dim": config.get("projection_dim", 512)}
    elif class_name in written_by:
        fields["projection_dim"] = None  # a bare tower's config has such a width too, but no projection
    return {key: value for key, value in fields.items() if key not in COMMENTS}


def _whole_heads(config: Any) -> Any:
    if config.hidden_size % config.num_attention_heads:
        raise UserError(
            f"CLIP config: num_attention_heads={config.num_attention_heads} "
            f"does not divide hidden_size={config.hidden_size}"
        )
    return config


def _write(config: VisionConfig | TextConfig, name: str, model_type: str) -> dict[str, Any]:
    projection = "" if config.projection_dim is None else "WithProjection"
    fields = {k: v for k, v in write_fields(config).items() if v is not None}
    return {"architectures": [name + projection], "model_type": model_type, **fields}
