"""The noise of a clip: partly the same in all frames, so that what is made of it holds still.

A sampler that never adds noise maps its first noise to a picture. Frames of a clip resemble each other, and so should
their noises: with `shared` s, each frame's noise is

    sqrt(s) * (one noise for the whole clip) + sqrt(1 - s) * (its own)

which is standard Gaussian again, with correlation s between any two frames (the mixed noise of Ge et al. 2023,
"Preserve Your Own Correlation", arXiv:2305.10474, where s = alpha^2 / (1 + alpha^2)). A network has to be sampled with
the s that it was trained with; it is part of the schedule, `NoiseSchedule.shared_noise`, and 0 in image models. Noise
that a sampler adds on its way is of the same kind, another one for each step.
"""

import jax
import jax.numpy as jnp

Array = jax.Array
_NO_FRAME = 2**32 - 1  # in the place of a frame's number: keys that begin so are no frame's


def segment_noise(key: Array, shape: tuple[int, ...], shared: float) -> Array:
    """Noise for training.

    Args:
      key: a random key.
      shape: (B, T, h, w, C).
      shared: from 0 to 1.

    Returns:
      [B, T, h, w, C] float32.
    """
    common, own = jax.random.split(key)
    return _mix(jax.random.normal(common, (shape[0], 1, *shape[2:])), jax.random.normal(own, shape), shared)


def frame_noise(key: Array, frames: Array, shape: tuple[int, ...], shared: float) -> Array:
    """Noise for sampling, a function of clip and frame: whichever segment asks for a frame gets the same.

    Args:
      key: of the clip.
      frames: [B, T] int, source indices or other times.
      shape: (h, w, C).
      shared: from 0 to 1.

    Returns:
      [B, T, h, w, C] float32.
    """
    own = jax.vmap(jax.vmap(lambda frame: jax.random.normal(jax.random.fold_in(key, frame), shape)))(frames)
    return _mix(jax.random.normal(key, shape), own, shared)


def step_noise(key: Array, step: Array, frames: Array, shape: tuple[int, ...], shared: float) -> Array:
    """Fresh noise for a step of sampling, a function of clip, step and frame; arguments and result as `frame_noise`.

    Args:
      step: int scalar, its number.
    """
    steps = jax.random.fold_in(key, _NO_FRAME)
    return frame_noise(jax.random.fold_in(steps, step), frames, shape, shared)


def _mix(common: Array, own: Array, shared: float) -> Array:
    return own if shared == 0 else jnp.sqrt(shared) * common + jnp.sqrt(1 - shared) * own
