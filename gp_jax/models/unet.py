"""The inpainting UNet of Stable Diffusion, grown into a video network.

Built from the `config.json` of a diffusers `UNet2DConditionModel` and keys of ours (unet_config.py), which add EST
modules, 3D windows, motion modules and global tokens.

Without these it is the image network. With them on and fresh it still computes the same, frame by frame:
every new module ends in zeros. Training departs from there.

One frame of a segment enters as `[noisy latents 4 | mask 1 | masked-video latents 4]`. For the interpolation model
the boundary frames carry their clean latents in the last four channels and 0 in the mask. The last key, `masked_fill`,
says what the masked video shows where nothing was observed: a name in `conditioning.FILLS`.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from gp_jax.models.attention import AUTO
from gp_jax.models.layers import EmbeddingMLP, GroupNorm, JointGroupNorm, conv3x3
from gp_jax.models.unet_blocks import BlockFactory, Condition, MiddleBlock, UpBlock, scalar_embedding
from gp_jax.models.unet_config import ATTENTION_BLOCKS, UNetConfig
from gp_jax.parallel import constrain

Array = jax.Array


class UNet(nnx.Module):
    """See the module's docstring.

    `attention` is one of `attention.NAMES`, `remat` a policy of `REMAT`; `dtype` is the compute dtype.
    """

    def __init__(
        self,
        config: UNetConfig,
        *,
        rngs: nnx.Rngs,
        dtype: DTypeLike | None = None,
        attention: str = AUTO,
        remat: str = "none",
    ):
        self.config, self.dtype = config, dtype
        widths, levels = config.block_out_channels, len(config.block_out_channels)
        make = BlockFactory(config, rngs, dtype, attention, remat)
        embedding = 4 * widths[0]

        self.conv_in = conv3x3(config.in_channels, widths[0], rngs=rngs, dtype=dtype)
        self.time_embedding = EmbeddingMLP(widths[0], embedding, rngs=rngs, dtype=dtype)
        if config.temporal:
            self.stride_embedding = EmbeddingMLP(widths[0], embedding, zero=True, rngs=rngs, dtype=dtype)

        self.down, skips = make.way_down()
        self.middle = MiddleBlock(make, widths[-1], levels - 1)

        self.up = nnx.List()
        below = widths[-1]
        for index, level in enumerate(reversed(range(levels))):
            width = widths[level]
            inputs = [x + skips.pop() for x in [below] + [width] * config.layers_per_block]
            attended = ATTENTION_BLOCKS[config.up_block_types[index]]
            self.up.append(UpBlock(make, inputs, width, level, attended, last=level == 0))
            below = width

        norm = JointGroupNorm if config.norm_joint else GroupNorm
        self.norm_out = norm(widths[0], config.norm_num_groups, config.norm_eps, rngs=rngs, dtype=dtype)
        self.conv_out = conv3x3(widths[0], config.out_channels, rngs=rngs, dtype=dtype)

    def __call__(
        self,
        sample: Array,
        timesteps: Array,
        text: Array,
        tokens: Array | None = None,
        frames: Array | None = None,
        residuals: tuple[Sequence[Array], Array] | None = None,
        insertion: Array | None = None,
    ) -> Array:
        """Predicts what the schedule's prediction type says (noise, v, ...) for a batch of segments.

        Args:
          sample: [B, T, h, w, Cin] noisy latents, mask (1 = unknown) and masked-video latents.
          timesteps: [B], 0 to 999.
          text: [B, L, D] text embedding, of the null prompt where there is no text.
          tokens: [B, K, D] global tokens; all zero means dropped. None: as if dropped.
          frames: [B, T] source frame index of each frame, which tells position and stride; None: 0, 1, 2, ...
          residuals: of a `ControlNet`, added to what the way down leaves for the way up, and to the middle.
          insertion: [H, W] or [B, H, W], whatever the size: how much of a LoRA's updates of queries, keys and values
            of the motion modules counts at each place, for networks without EST; None for all of them everywhere.

        Returns:
          [B, T, h, w, Cout] in the dtype of `sample`.
        """
        config = self.config
        batch, length = sample.shape[:2]
        if frames is None:
            frames = jnp.broadcast_to(jnp.arange(length), (batch, length))
        stride, positions = _places(frames)
        x = constrain(sample.astype(self.dtype or sample.dtype), "batch", "frame", None, None, None)
        text = text.astype(x.dtype)
        tokens = None if tokens is None or not config.global_tokens else tokens.astype(x.dtype)

        embedding = self.time_embedding(scalar_embedding(config, timesteps).astype(x.dtype))
        if config.temporal:
            embedding = embedding + self.stride_embedding(scalar_embedding(config, stride).astype(x.dtype))
        condition = Condition(embedding, text, tokens, positions, insertion)

        x = self.conv_in(x)
        skips = [x]
        for block in self.down:
            x, made = block(x, condition)
            skips += made
        x = self.middle(x, condition)
        if residuals is not None:
            skips = [skip + residual.astype(x.dtype) for skip, residual in zip(skips, residuals[0], strict=True)]
            x = x + residuals[1].astype(x.dtype)
        for block in self.up:
            x = block(x, skips, condition)
        x = self.conv_out(nnx.silu(self.norm_out(x)))
        return constrain(x.astype(sample.dtype), "batch", "frame", None, None, None)


def _places(frames: Array) -> tuple[Array, Array]:
    """The stride [B] of segments, and the place of each frame in its segment [B, T], from source indices [B, T].

    A segment that is too short repeats its last frame. Training has no such segments, but clips that stand still: so a
    repeated frame is told as one that comes a stride later, and the stride, 1 or more, is that of the others.
    """
    steps = jnp.diff(frames, axis=1) > 0
    count = steps.sum(axis=1)
    stride = jnp.where(count > 0, (frames[:, -1] - frames[:, 0]) / jnp.maximum(count, 1), 1.0)
    standing = jnp.pad(jnp.cumsum(~steps, axis=1), ((0, 0), (1, 0)))
    return stride, (frames - frames[:, :1]) / stride[:, None] + standing
