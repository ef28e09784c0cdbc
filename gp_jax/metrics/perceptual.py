"""LPIPS: how different two frames look to a network that has learned to see.

Zhang et al. (2018, arXiv 1801.03924), version 0.1: both frames run through an ImageNet classifier; at five depths the
features are normalised at every position, subtracted, squared and weighted by a learned head, averaged over space, and
the five are added up. AlexNet is what papers report when they say LPIPS; VGG16 is the other one in use.

Under a mask both frames are mid-grey where pixels don't count, so that nothing there can reach a feature, and each
depth averages its distances with the share of counting pixels at each position as weight. A full mask changes
nothing.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from gp_jax.checkpoint.parameters import abstract, load_into
from gp_jax.errors import UserError
from gp_jax.metrics.checks import AnyArray, check_pixels
from gp_jax.metrics.metric import FrameValues, Metric, frame_metric, full, hide, over_mesh, region, signed
from gp_jax.published.weights import load

Array = jax.Array

# Mean and deviation of ImageNet's colours, for pixels in [-1, 1].
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


@dataclasses.dataclass(frozen=True)
class Convolutions:
    """Convolutions in a row, a ReLU after each, before which an optional max pool halves the map."""

    channels: tuple[int, ...]
    pool: int = 0  # window; the stride is 2
    kernel: int = 3
    stride: int = 1
    padding: int = 1


NETS = {
    "alex": (
        Convolutions((64,), kernel=11, stride=4, padding=2),
        Convolutions((192,), pool=3, kernel=5, padding=2),
        Convolutions((384,), pool=3),
        Convolutions((256,)),
        Convolutions((256,)),
    ),
    "vgg": (
        Convolutions((64,) * 2),
        Convolutions((128,) * 2, pool=2),
        Convolutions((256,) * 3, pool=2),
        Convolutions((512,) * 3, pool=2),
        Convolutions((512,) * 3, pool=2),
    ),
}

# Smaller frames leave a stage without a position.
MIN_SIDES = {"alex": 31, "vgg": 16}


class LPIPS(nnx.Module):
    """The classifier's convolutions and one head per stage."""

    def __init__(self, net: str, *, rngs: nnx.Rngs):
        self.net = net
        self.stages, self.heads, self.pools = nnx.List([]), nnx.List([]), tuple(stage.pool for stage in NETS[net])
        inputs = 3
        for stage in NETS[net]:
            convolutions = nnx.List([])
            for outputs in stage.channels:
                convolutions.append(
                    nnx.Conv(
                        inputs,
                        outputs,
                        (stage.kernel,) * 2,
                        (stage.stride,) * 2,
                        padding=stage.padding,
                        precision=jax.lax.Precision.HIGHEST,
                        rngs=rngs,
                    )
                )
                inputs = outputs
            self.stages.append(convolutions)
            self.heads.append(nnx.Param(jnp.ones(inputs)))

    def __call__(self, reference: Array, generated: Array) -> list[Array]:
        """Distances at each depth.

        Args:
          reference, generated: [N, H, W, 3] float32 in [-1, 1], `MIN_SIDES` pixels a side at least.

        Returns:
          five maps [N, h, w], each coarser than or as coarse as the one before.

        Raises:
          UserError: the frames are smaller, or not of one shape.
        """
        count, height, width, channels = reference.shape
        if min(height, width) < MIN_SIDES[self.net]:
            raise UserError(
                f"LPIPS ({self.net}) sees nothing of frames of {width}x{height}: it takes {MIN_SIDES[self.net]} pixels "
                "a side at least"
            )
        if reference.shape != generated.shape:
            raise UserError(
                f"reference and generated must be of one shape, not {[*reference.shape]} and {[*generated.shape]}"
            )
        # Pairs side by side: one pass through the network, and what a mesh has spread stays where it is.
        pairs = jnp.stack((reference, generated), axis=1).reshape(2 * count, height, width, channels)
        distances = []
        for maps, head in zip(self.features(pairs), self.heads, strict=True):
            squares = jnp.square(maps[0::2] - maps[1::2])
            distances.append(jnp.einsum("nhwc,c->nhw", squares, head, precision=jax.lax.Precision.HIGHEST))
        return distances

    def features(self, frames: Array) -> list[Array]:
        """Features of unit length at each depth, [N, h, w, C] each; arguments as for the call."""
        x, features = (frames - jnp.array(_SHIFT)) / jnp.array(_SCALE), []
        for pool, convolutions in zip(self.pools, self.stages, strict=True):
            x = nnx.max_pool(x, (pool, pool), (2, 2)) if pool else x
            for convolution in convolutions:
                x = nnx.relu(convolution(x))
            features.append(x / (jnp.linalg.norm(x, axis=-1, keepdims=True) + 1e-10))
        return features


@functools.cache
def load_lpips(net: str) -> LPIPS:
    """The network with its published weights, "alex" or "vgg"; raises UserError where they were not fetched."""
    name = f"lpips-{net}"
    with jax.ensure_compile_time_eval():  # the first call may come from a traced function, and what is kept outlives it
        model = abstract(LPIPS, net)
        load_into(model, load(name), source=name)
    return model


def lpips_distance(reference: Array, generated: Array) -> Array:
    """LPIPS of frames (AlexNet) as a loss: differentiable, and usable within a traced function.

    Args:
      reference, generated: [N, H, W, 3] float in [-1, 1], 31 pixels a side at least.

    Returns:
      [N] float32.

    Raises:
      UserError: the weights were not fetched, or the frames are smaller.
    """
    distances = load_lpips("alex")(reference, generated)
    means: list[Array] = [distance.mean(axis=(1, 2)) for distance in distances]
    return sum(means[1:], start=means[0])


def lpips_map(reference: AnyArray, generated: AnyArray, net: str = "alex") -> Array:
    """Where frames differ: each depth's distances, bilinearly at full size, added up (`spatial=True` of the original).

    Args:
      reference, generated: [N, H, W, 3] uint8, or float in [-1, 1].
      net: "alex" or "vgg".

    Returns:
      [N, H, W] float32. Its mean is close to LPIPS, not equal: coarse maps are not stretched evenly at the rim.

    Raises:
      UserError: the weights were not fetched, or the frames are no such arrays, or too small.
    """
    for what, frames in (("reference", reference), ("generated", generated)):
        check_pixels(what, frames, "N, H, W, 3")
    return _map(*nnx.split(load_lpips(net)), reference, generated)


@functools.partial(jax.jit, static_argnums=0)
def _map(graph: nnx.GraphDef[LPIPS], parameters: nnx.State, reference: Array, generated: Array) -> Array:
    distances = nnx.merge(graph, parameters)(signed(reference), signed(generated))
    maps: list[Array] = [jax.image.resize(distance, reference.shape[:3], "linear") for distance in distances]
    return sum(maps[1:], start=maps[0])


@functools.partial(jax.jit, static_argnums=0)
def _frames(
    graph: nnx.GraphDef[LPIPS], parameters: nnx.State, reference: Array, generated: Array, mask: Array
) -> FrameValues:
    batch, frames, height, width, _ = reference.shape
    counts = region(mask, reference).reshape(-1, height, width)
    images = (hide(signed(over_mesh(v)), mask).reshape(-1, height, width, 3) for v in (reference, generated))
    values = jnp.float32(0)
    for distance in nnx.merge(graph, parameters)(*images):
        share = jax.image.resize(counts.astype(jnp.float32), distance.shape, "linear", antialias=True)
        values += (share * distance).sum(axis=(1, 2)) / jnp.maximum(share.sum(axis=(1, 2)), 1e-6)
    return FrameValues(values.reshape(batch, frames), counts.any(axis=(1, 2)).reshape(batch, frames))


def _lpips(net: str) -> Metric:
    def frames(reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None) -> FrameValues:
        return _frames(*nnx.split(load_lpips(net)), reference, generated, full(mask))

    return frame_metric("lpips", net, "lower", frames, min_side=MIN_SIDES[net], weights=f"lpips-{net}")


lpips = _lpips("alex")
lpips_vgg = _lpips("vgg")
