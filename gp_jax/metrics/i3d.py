"""I3D, the video classifier whose logits FVD compares.

The two-stream inflated Inception-v1 of Carreira and Zisserman (2017, arXiv 1705.07750), RGB stream, trained on
Kinetics-400. It is the network of every published FVD, so each detail follows the original
(google-deepmind/kinetics-i3d): SAME padding everywhere as TensorFlow defines it, batch normalisation without gamma, a
final average pool over 2 x 7 x 7. Batch normalisation is folded into the convolutions when the weights are converted;
that changes the last bit, no more.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gp_jax.checkpoint.parameters import abstract, load_into
from gp_jax.published.weights import load

Array = jax.Array

WEIGHTS = "i3d-kinetics-400"
FEATURES = 400
SIZE = 224  # pixels of each side of the input
MIN_FRAMES = 10

# Of an Inception block the channels of its convolutions: 1x1 | 1x1, 3x3 | 1x1, 3x3 | behind the pool, 1x1.
# Of a max pool its window and strides.
STAGES: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("mixed_3b", (64, 96, 128, 16, 32, 32)),
    ("mixed_3c", (128, 128, 192, 32, 96, 64)),
    ("pool", ((3, 3, 3), (2, 2, 2))),
    ("mixed_4b", (192, 96, 208, 16, 48, 64)),
    ("mixed_4c", (160, 112, 224, 24, 64, 64)),
    ("mixed_4d", (128, 128, 256, 24, 64, 64)),
    ("mixed_4e", (112, 144, 288, 32, 64, 64)),
    ("mixed_4f", (256, 160, 320, 32, 128, 128)),
    ("pool", ((2, 2, 2), (2, 2, 2))),
    ("mixed_5b", (256, 160, 320, 32, 128, 128)),
    ("mixed_5c", (384, 192, 384, 48, 128, 128)),
)


class I3D(nnx.Module):
    """Video to class logits, in float32 at the highest precision the device has."""

    def __init__(self, classes: int = FEATURES, *, rngs: nnx.Rngs):
        self.conv_1a = _conv(3, 64, 7, 2, rngs)
        self.conv_2b = _conv(64, 64, 1, 1, rngs)
        self.conv_2c = _conv(64, 192, 3, 1, rngs)
        channels = 192
        for name, widths in STAGES:
            if name != "pool":
                setattr(self, name, Inception(channels, widths, rngs=rngs))
                channels = widths[0] + widths[2] + widths[4] + widths[5]
        self.logits = _conv(channels, classes, 1, 1, rngs)

    def __call__(self, video: Array) -> Array:
        """Logits averaged over time.

        Args:
          video: [B, T, 224, 224, 3] float32 in [-1, 1], T at least 10.

        Returns:
          [B, classes] float32.
        """
        x = nnx.avg_pool(self.features(video)[-1], (2, 7, 7), (1, 1, 1), "VALID")
        return self.logits(x).mean(axis=(1, 2, 3))

    def features(self, video: Array) -> list[Array]:
        """What each Inception block makes of a video [B, T, H, W, 3] of any size: [B, t, h, w, C] each."""
        features, x = [], nnx.relu(_fold_time(self.conv_1a, video))
        x = _max_pool(x, (1, 3, 3), (1, 2, 2))
        x = nnx.relu(self.conv_2b(x))
        x = nnx.relu(self.conv_2c(x))
        x = _max_pool(x, (1, 3, 3), (1, 2, 2))
        for name, detail in STAGES:
            if name == "pool":
                x = _max_pool(x, *detail)
            else:
                x = getattr(self, name)(x)
                features.append(x)
        return features


class Inception(nnx.Module):
    """Four branches side by side, joined along the channels."""

    def __init__(self, channels: int, widths: tuple[int, ...], *, rngs: nnx.Rngs):
        self.point = _conv(channels, widths[0], 1, 1, rngs)
        self.reduce_1 = _conv(channels, widths[1], 1, 1, rngs)
        self.expand_1 = _conv(widths[1], widths[2], 3, 1, rngs)
        self.reduce_2 = _conv(channels, widths[3], 1, 1, rngs)
        self.expand_2 = _conv(widths[3], widths[4], 3, 1, rngs)
        self.pooled = _conv(channels, widths[5], 1, 1, rngs)

    def __call__(self, x: Array) -> Array:
        branches = (
            self.point(x),
            self.expand_1(nnx.relu(self.reduce_1(x))),
            self.expand_2(nnx.relu(self.reduce_2(x))),
            self.pooled(_max_pool(x, (3, 3, 3), (1, 1, 1))),
        )
        return nnx.relu(jnp.concatenate(branches, axis=-1))


@functools.cache
def load_i3d() -> I3D:
    """The network with its Kinetics-400 weights; raises UserError where they were not fetched."""
    with jax.ensure_compile_time_eval():  # the first call may come from a traced function, and what is kept outlives it
        model = abstract(I3D, FEATURES)
        load_into(model, load(WEIGHTS), source=WEIGHTS)
    return model


def i3d_distance(reference: Array, generated: Array, side: int) -> Array:
    """How different two videos look, motion included, as a loss: differentiable, and usable within a traced function.

    The mean over I3D's blocks of the squared distance between features of unit length (the formula of LPIPS, arXiv
    1801.03924, without its learned heads).

    Args:
      reference, generated: [B, T, H, W, 3] float in [-1, 1].
      side: pixels of the shorter side at which the network sees them; 224 as for FVD, or fewer for less work.

    Returns:
      [B] float32, from 0 to 4.

    Raises:
      UserError: the weights were not fetched.
    """
    count, frames, height, width, _ = reference.shape
    scale = side / min(height, width)
    shape = 2 * count, frames, round(scale * height), round(scale * width), 3
    videos = jax.image.resize(jnp.concatenate((reference, generated)), shape, "linear")
    distances = []
    for x in load_i3d().features(videos):
        unit = x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + 1e-6)
        distances.append(jnp.square(unit[:count] - unit[count:]).sum(axis=-1).mean(axis=(1, 2, 3)))
    return sum(distances[1:], start=distances[0]) / len(distances)


def _conv(inputs: int, outputs: int, kernel: int, stride: int, rngs: nnx.Rngs) -> nnx.Conv:
    return nnx.Conv(
        inputs, outputs, (kernel,) * 3, (stride,) * 3, padding="SAME", precision=jax.lax.Precision.HIGHEST, rngs=rngs
    )


def _fold_time(conv: nnx.Conv, x: Array) -> Array:
    """A 3D convolution of few channels as a 2D one, the frames of its window stacked as channels.

    XLA's CPU code for 3D convolutions of 3 channels takes 4.6 times as long, most of the whole network's time.
    """
    batch, frames, height, width, channels = x.shape
    assert isinstance(conv.kernel_size, tuple) and isinstance(conv.strides, tuple) and conv.bias is not None
    (window, *kernel), (stride, *strides) = conv.kernel_size, conv.strides
    ((before, after),) = jax.lax.padtype_to_pads((frames,), (window,), (stride,), "SAME")
    x = jnp.pad(x, ((0, 0), (before, after), (0, 0), (0, 0), (0, 0)))
    shifted = [jax.lax.slice_in_dim(x, i, x.shape[1] - window + i + 1, stride, axis=1) for i in range(window)]
    stacked = jnp.concatenate(shifted, axis=-1).reshape(-1, height, width, window * channels)
    weights = jnp.moveaxis(conv.kernel[...], 0, 2).reshape(*kernel, window * channels, -1)
    y = jax.lax.conv_general_dilated(
        stacked, weights, strides, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision=conv.precision
    )
    return y.reshape(batch, -1, *y.shape[1:]) + conv.bias[...]


def _max_pool(x: Array, window: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    """Axis by axis, which is the same and several times as fast."""
    for axis in range(3):
        along = [tuple(size if i == axis else 1 for i, size in enumerate(sizes)) for sizes in (window, strides)]
        x = nnx.max_pool(x, *along, padding="SAME")
    return x
