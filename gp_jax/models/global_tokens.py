"""The global token extractor: what all frames show, in a few tokens.

A Perceiver resampler (Jaegle et al. 2021, arXiv 2103.03206; Flamingo, arXiv 2204.14198; the same choice as
IP-Adapter-Plus): K learned queries attend to the CLIP patch tokens of the observed region of every frame. A token
knows where its patch lies on the canvas and when its frame is shown, so that what was seen on the left in frame 10
can be told from what was seen on the right in frame 90. Features come from the observed rectangle alone; what is not
observed can't leak in.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, read_fields, within, write_fields
from gp_jax.models.attention import attend, merge_heads, split_heads
from gp_jax.models.layers import FeedForward, layer_norm, sinusoidal
from gp_jax.parallel import constrain

Array = jax.Array
# Coordinates in [0, 1] are stretched to this range before their sinusoidal encoding, whose finest wave is 2 pi.
_RANGE = 100.0


@dataclasses.dataclass(frozen=True)
class GlobalTokensConfig:
    """Sizes of the extractor; the defaults fit OpenCLIP ViT-H/14 (1280 wide) and Stable Diffusion 2."""

    feature_width: int = within(1280, 1, 8192)
    width: int = within(1024, 1, 8192)
    tokens: int = within(64, 1, 4096)
    layers: int = within(4, 1, 64)
    heads: int = within(16, 1, 1024)
    output_width: int = within(1024, 1, 8192)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "GlobalTokensConfig":
        """Reads the `config.json` of a component; raises UserError where it cannot be meant."""
        made = read_fields(cls, config, Foreign(classes=("GlobalTokens",)), "global tokens config")
        if made.width % made.heads:
            raise UserError(f"global tokens config: heads={made.heads} does not divide width={made.width}")
        return made

    def to_json(self) -> dict[str, Any]:
        """The `config.json` of this network."""
        return {"_class_name": "GlobalTokens", **write_fields(self)}


class GlobalTokens(nnx.Module):
    """`[B, F, P, Dc]` patch features of a clip to `[B, K, D]` tokens."""

    def __init__(self, config: GlobalTokensConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.config = config
        width = config.width
        self.queries = nnx.Param(nnx.initializers.normal(0.02)(rngs.params(), (config.tokens, width)))
        self.project = nnx.Linear(config.feature_width, width, dtype=dtype, rngs=rngs)
        self.place = nnx.Linear(3 * 64, width, dtype=dtype, rngs=rngs)
        self.norm_in = layer_norm(width, rngs=rngs, dtype=dtype)
        self.layers = nnx.List(ResamplerLayer(config, rngs=rngs, dtype=dtype) for _ in range(config.layers))
        self.norm_out = layer_norm(width, rngs=rngs, dtype=dtype)
        self.output = nnx.Linear(width, config.output_width, dtype=dtype, rngs=rngs)

    def __call__(self, features: Array, positions: Array, times: Array, valid: Array) -> Array:
        """Distils a clip's features.

        Args:
          features: [B, F, P, Dc] patch tokens of the observed rectangle of F frames.
          positions: [B, F, P, 2] centre (y, x) of each patch on the canvas, in [0, 1].
          times: [B, F] time of each frame within the clip, in [0, 1].
          valid: [B, F] bool, False for frames that only fill the batch.

        Returns:
          [B, K, D] global tokens.
        """
        batch, frames, patches, _ = features.shape
        where = jnp.concatenate([positions, jnp.broadcast_to(times[:, :, None, None], (batch, frames, patches, 1))], -1)
        where = sinusoidal(where * _RANGE, 64).reshape(batch, frames, patches, -1)
        x = self.norm_in(self.project(features) + self.place(where.astype(features.dtype)))
        x = x.reshape(batch, 1, frames * patches, -1)
        mask = jnp.repeat(valid, patches, axis=1)[:, None, None, None, :]
        queries = self.queries[...].astype(x.dtype)
        tokens = jnp.broadcast_to(queries, (batch, 1, *queries.shape))
        for layer in self.layers:
            tokens = layer(tokens, x, mask)
        return self.output(self.norm_out(tokens[:, 0]))


class ResamplerLayer(nnx.Module):
    """The queries look at the features and at each other, then a feed-forward."""

    def __init__(self, config: GlobalTokensConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None):
        width, self.heads = config.width, config.heads
        self.norm_query = layer_norm(width, rngs=rngs, dtype=dtype)
        self.norm_key = layer_norm(width, rngs=rngs, dtype=dtype)
        self.query = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.key = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.value = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.output = nnx.Linear(width, width, use_bias=False, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(width, rngs=rngs, dtype=dtype)
        self.feed_forward = FeedForward(width, rngs=rngs, dtype=dtype)

    def __call__(self, tokens: Array, features: Array, mask: Array) -> Array:
        """Args: tokens: [B, 1, K, D]. features: [B, 1, F * P, D]. mask: [B, 1, 1, 1, F * P]. Returns: like tokens."""
        query = self.norm_query(tokens)
        seen = jnp.concatenate([self.norm_key(features), query], axis=2)
        mask = jnp.concatenate([mask, jnp.ones((*mask.shape[:-1], tokens.shape[2]), bool)], axis=-1)
        q, k, v = (split_heads(x, self.heads) for x in (self.query(query), self.key(seen), self.value(seen)))
        tokens = tokens + self.output(merge_heads(attend(q, k, v, mask=mask)))
        # Left to itself, XLA's partitioner swaps clips here on a mesh of data, fsdp and tensor together.
        return constrain(tokens + self.feed_forward(self.norm(tokens)), "batch", None, None, None)
