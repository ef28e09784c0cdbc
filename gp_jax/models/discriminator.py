"""Tells made frames from true ones, patch by patch, while networks are trained; no checkpoint has it.

A PatchGAN (Isola et al. 2017, arXiv 1611.07004): convolutions of 4 x 4 with stride 2, each position of whose last map
judges the patch of the frame that it sees. Beside a frame it sees how it differs from the one before, so that it judges
motion too, and which pixels were made.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

Array = jax.Array
_SLOPE = 0.2  # of the leaky ReLUs, as in arXiv 1511.06434


@dataclasses.dataclass(frozen=True)
class DiscriminatorConfig:
    """`widths`: channels of the maps, each of half the size of the one before."""

    widths: tuple[int, ...] = (32, 64, 128)


class Discriminator(nnx.Module):
    """Frames to how true each patch looks."""

    def __init__(self, config: DiscriminatorConfig, *, rngs: nnx.Rngs, dtype: DTypeLike | None = None):
        self.config = config
        inputs = (7, *config.widths)
        self.convolutions = nnx.List(
            nnx.Conv(a, b, (4, 4), strides=2, dtype=dtype, rngs=rngs) for a, b in zip(inputs, config.widths)
        )
        self.conv_out = nnx.Conv(config.widths[-1], 1, (3, 3), dtype=dtype, rngs=rngs)

    def __call__(self, frames: Array, made: Array) -> tuple[Array, list[Array]]:
        """How true the patches look, and what that is told by.

        Args:
          frames: [B, T, H, W, 3] in [-1, 1].
          made: [B, T, H, W], 1 where a pixel may have been made, else 0.

        Returns:
          Logits [B, T, h, w] float32, the higher the truer, and the maps [B, T, h', w', C] before each halving but the
          first.
        """
        changes = jnp.diff(frames, axis=1, prepend=frames[:, :1])
        x, maps = jnp.concatenate([frames, changes, made[..., None]], axis=-1), []
        for convolution in self.convolutions:
            x = nnx.leaky_relu(convolution(x), _SLOPE)
            maps.append(x)
        return self.conv_out(x)[..., 0].astype(jnp.float32), maps
