"""A metric is three functions: `state` of a batch, `merge` of two states, `compute` of the last one.

A set of videos rarely fits one batch, one device or one host. So nothing is averaged early: `state` keeps the few
numbers that determine the result, `merge` joins the states of any two parts exactly, and only `compute` makes the
number.

    total = None
    for reference, generated in batches:                # [B, T, H, W, 3] each
        part = ssim.state(reference, generated, mask)
        total = part if total is None else ssim.merge(total, part)
    value = ssim.compute(gather(ssim, total))           # gather: the parts of all processes

`state` is jitted and follows the mesh of `gp_jax.parallel.use_mesh`: clips are spread over `data` and `fsdp`, frames
over `context`. `merge` and `compute` handle little data and run on the host in float64. A metric that is called is
all three at once: `ssim(reference, generated, mask)`.

Most metrics give one number per frame and average over frames; `frame_metric` makes all three functions from that one.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from gp_jax.errors import UserError
from gp_jax.metrics.checks import AnyArray, check_pair
from gp_jax.parallel import constrain

Array = jax.Array
State = Any  # a pytree of arrays


@dataclasses.dataclass(frozen=True)
class Metric:
    """Three functions, and what has to be printed beside their number.

    `state(reference, generated, mask=None)` takes videos [B, T, H, W, 3], uint8 or float in [-1, 1], and a mask that
    is 1 where a pixel counts (the unknown region, say) and 0 elsewhere, broadcastable to [B, T, H, W]. None counts
    every pixel. `frames`, where a metric has it, takes the same and gives a `FrameValues`. Both raise UserError on
    anything else, on clips without frames, and on clips that are too short or too small (`obstacle`).
    """

    name: str
    preset: str
    better: str  # "higher" or "lower"
    state: Callable[..., State]
    merge: Callable[[State, State], State]
    compute: Callable[[State], float]
    frames: Callable[..., "FrameValues"] | None = None
    # How many neighbouring frames one value, or part of one, is made from; None for whole clips.
    reach: int | None = None
    # Where `frames` has one value for a whole clip: the values of its frames, as a `frames` itself, and from these [T]
    # the clip's [1], where the mask is the same for all frames. So a clip need not be held.
    parts: tuple[Callable[..., "FrameValues"], Callable[[np.ndarray], np.ndarray]] | None = None
    # Where there is no `frames`: from the number of a clip's frames to those that are looked at, rising. They alone
    # have the state of the clip.
    pick: Callable[[int], list[int]] | None = None
    paired: bool = True  # whether each clip is compared with a reference of its own, and not a set with a set
    min_clips: int = 1  # on either side
    min_frames: int = 1  # shorter clips have no number
    min_side: int = 1  # nor do smaller frames, in pixels
    weights: str | None = None  # name in `gp_jax.published.weights` of what it cannot do without

    def __post_init__(self):
        for name in ("state", "frames"):
            if function := getattr(self, name):
                object.__setattr__(self, name, functools.partial(self._checked, function))

    def __call__(self, reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None) -> float:
        """The number for one batch: NaN where the mask leaves nothing to measure.

        Raises:
          UserError: as `state`, or there are fewer clips than it takes.
        """
        state = self.state(reference, generated, mask)
        if (clips := min(len(reference), len(generated))) < self.min_clips:
            raise UserError(f"{self.name} compares sets of {self.min_clips} clips or more, and one has {clips}")
        return self.compute(state)

    def obstacle(self, frames: int, height: int, width: int) -> str:
        """Why a clip of this size has no number, after its name; an empty string where it has one."""
        if frames < self.min_frames:
            return f"has {frames} frame{'s' * (frames != 1)}, {self.min_frames} are needed"
        if min(height, width) < self.min_side:
            return f"is {width}x{height}, {self.min_side} pixels are needed"
        return ""

    def _checked(
        self,
        function: Callable[..., Any],
        reference: AnyArray,
        generated: AnyArray,
        mask: AnyArray | None = None,
    ) -> Any:
        check_pair(reference, generated, mask, paired=self.paired)
        for what, video in (("reference", reference), ("generated", generated)):
            if problem := self.obstacle(*video.shape[1:4]):
                raise UserError(f"{self.name}: {what} {problem}")
        return function(reference, generated, mask)


class FrameValues(NamedTuple):
    """One number per frame (or per pair of neighbours, or per clip), and whether there was anything to measure."""

    values: Array  # [B, N] float32
    measured: Array  # [B, N] bool


class Mean(NamedTuple):
    """Sum and number of what is averaged."""

    total: AnyArray  # []
    number: AnyArray  # []


def frame_metric(
    name: str, preset: str, better: str, frames: Callable[..., FrameValues], reach: int | None = 1, **needs: Any
) -> Metric:
    """A metric that averages over all frames of all clips alike.

    Args:
      name, preset, better, frames, reach: see `Metric`.
      **needs: `parts`, `min_frames`, `min_side`, `weights`.
    """

    def state(reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None) -> Mean:
        return _mean(frames(reference, generated, mask))

    return Metric(name, preset, better, state, merge_means, compute_mean, frames, reach, **needs)


def jit_frames(function: Callable[..., tuple[Array, Array]]) -> Callable[..., FrameValues]:
    """Jits `function(reference, generated, mask)`, clips and frames spread over the mesh; None is a full mask."""

    @jax.jit
    def jitted(reference: Array, generated: Array, mask: Array) -> FrameValues:
        return FrameValues(*function(over_mesh(reference), over_mesh(generated), mask))

    @functools.wraps(function)
    def frames(reference: AnyArray, generated: AnyArray, mask: AnyArray | None = None) -> FrameValues:
        return jitted(reference, generated, full(mask))

    return frames


@jax.jit
def _mean(frames: FrameValues) -> Mean:
    return Mean(jnp.where(frames.measured, frames.values, 0).sum(), frames.measured.sum().astype(jnp.float32))


def merge_means(a: Mean, b: Mean) -> Mean:
    """The state of both parts together, in float64 on the host."""
    return Mean(*(np.asarray(x, np.float64) + np.asarray(y, np.float64) for x, y in zip(a, b)))


def compute_mean(state: Mean) -> float:
    """The mean; NaN where nothing was measured."""
    return float(state.total) / float(state.number) if state.number else float("nan")


def gather(metric: Metric, state: State) -> State:
    """Merges the states of all processes, each process's own part of the clips; every process gets the whole."""
    leaves, tree = jax.tree.flatten(state)
    flat = np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in leaves])
    # As bits, since JAX would round float64 to float32 on the way.
    rows = multihost_utils.process_allgather(flat.view(np.uint32), tiled=False).reshape(-1, 2 * len(flat))
    ends = np.cumsum([np.size(leaf) for leaf in leaves])[:-1]
    states = (
        tree.unflatten([part.reshape(np.shape(leaf)) for part, leaf in zip(np.split(row, ends), leaves)])
        for row in np.ascontiguousarray(rows).view(np.float64)
    )
    return functools.reduce(metric.merge, states)


def signed(video: Array) -> Array:
    """uint8 to float32 in [-1, 1]; float stays."""
    return video / jnp.float32(127.5) - 1 if video.dtype == jnp.uint8 else video.astype(jnp.float32)


def unit(video: Array) -> Array:
    """uint8, or float in [-1, 1], to float32 in [0, 1]."""
    return video / jnp.float32(255) if video.dtype == jnp.uint8 else (video.astype(jnp.float32) + 1) / 2


def full(mask: AnyArray | None) -> AnyArray:
    """`mask`, or a full one in the place of None; an argument of jit, since XLA would fold a constant for seconds."""
    return np.ones((), np.float32) if mask is None else mask


def over_mesh(video: Array) -> Array:
    """[B, T, H, W, C] over the mesh in force: clips and frames side by side."""
    return constrain(video, "batch", "frame", None, None, None)


def region(mask: Array, video: Array) -> Array:
    """[B, T, H, W] bool: the pixels of `video` that count."""
    return jnp.broadcast_to(mask > 0.5, video.shape[:-1])


def hide(video: Array, mask: Array) -> Array:
    """`video` in [-1, 1] with mid-grey where pixels don't count."""
    return jnp.where(region(mask, video)[..., None], video, 0)
