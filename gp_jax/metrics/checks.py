"""What a metric takes, looked at where it comes in: jax would make some number of nearly anything.

Three frames against one would broadcast, int32 pixels would be taken for floats, NaN would come out as NaN. All this
costs a look at the shapes, and for floats the smallest and the largest value. Traced arrays have none to look at.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gp_jax.errors import UserError

AnyArray = jax.Array | np.ndarray  # on a device or on the host

_SLACK = 1e-3  # what rounding on the way may add to a float pixel


def check_pair(reference: AnyArray, generated: AnyArray, mask: AnyArray | None, *, paired: bool) -> None:
    """Raises UserError unless both are videos [B, T, H, W, 3] and the mask fits them.

    Args:
      reference, generated: uint8, or float in [-1, 1].
      mask: None, or 0 and 1, broadcastable to [B, T, H, W].
      paired: whether both must be of one shape.
    """
    for what, video in (("reference", reference), ("generated", generated)):
        check_pixels(what, video, "B, T, H, W, 3")
        check_mask(mask, video)
    if not paired and mask is not None and not np.any(mask):
        raise UserError("the mask leaves nothing to measure: two sets of grey clips would be equal")
    if paired and reference.shape != generated.shape:
        raise UserError(
            f"reference and generated must be of one shape, not {list(reference.shape)} and {list(generated.shape)}"
        )


def check_pixels(what: str, pixels: AnyArray, shape: str) -> None:
    """Raises UserError, with the name `what`, unless `pixels` are uint8 or float in [-1, 1], of so many axes and 3."""
    dtype, found = getattr(pixels, "dtype", type(pixels).__name__), list(np.shape(pixels))
    is_float = hasattr(pixels, "dtype") and jnp.issubdtype(dtype, jnp.floating)
    if not (is_float or dtype == np.uint8) or len(found) != shape.count(",") + 1 or found[-1] != 3:
        raise UserError(f"{what} must be uint8, or float in [-1, 1], of the shape [{shape}], not {dtype} {found}")
    if 0 in found:
        raise UserError(f"{what} is empty: its shape is {found}")
    if is_float and not isinstance(pixels, Tracer):
        low, high = float(pixels.min()), float(pixels.max())
        if not (low >= -1 - _SLACK and high <= 1 + _SLACK):  # so written, NaN is refused too
            raise UserError(f"{what} has pixels from {low:.6g} to {high:.6g}: as floats they must lie in [-1, 1]")


def check_mask(mask: AnyArray | None, video: AnyArray) -> None:
    """Raises UserError unless `mask` is None, or holds 0 and 1 and broadcasts to the frames of `video`."""
    if mask is None:
        return
    if isinstance(mask, list | tuple):
        raise UserError(f"a mask is an array, not a {type(mask).__name__}: give numpy.asarray of it")
    shape, frames = np.shape(mask), np.shape(video)[:-1]
    fits = len(shape) <= len(frames) and all(m in (1, f) for m, f in zip(shape[::-1], frames[::-1]))
    if not fits:
        raise UserError(f"a mask must broadcast to [B, T, H, W] = {list(frames)}, and its shape is {list(shape)}")
    if isinstance(mask, Tracer):
        return
    values = np.asarray(mask)
    if values.dtype.kind not in "biuf" or not ((values == 0) | (values == 1)).all():
        raise UserError(f"a mask holds 1 where a pixel counts and 0 elsewhere; this one, {values.dtype}, does not")
