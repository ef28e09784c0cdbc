"""The training side: which timesteps to draw, which conditions to drop, and what a prediction costs.

keys = jax.random.split(key, 3)
t = sample_timesteps(keys[0], batch, schedule)
text, tokens = drop_conditions(keys[1], text, null_text, tokens, p_text=0.05, p_tokens=0.05, p_both=0.05)
noise = jax.random.normal(keys[2], clean.shape)
prediction = network(schedule.add_noise(clean, noise, t), t, text, tokens)
losses = training_loss(schedule, prediction, clean, noise, t)             # [B], to be averaged or put into buckets
"""

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.diffusion.schedules import NoiseSchedule


def training_loss(
    schedule: NoiseSchedule,
    prediction: jax.Array,
    clean: jax.Array,
    noise: jax.Array,
    t: jax.Array,
    *,
    weights: str = "uniform",
    gamma: float = 5.0,
) -> jax.Array:
    """The weighted mean squared error of each sample's prediction.

    Args:
      schedule: says what the prediction should have been.
      prediction: [B, ...], the network's output.
      clean: [B, ...], the clean latents.
      noise: [B, ...], the noise that was added to them.
      t: [B] integers, their timesteps.
      weights: a name in `WEIGHTS`.
      gamma: the signal-to-noise ratio above which "min_snr" counts no more; 5 in the paper.

    Returns:
      [B] float32.
    """
    error = prediction.astype(jnp.float32) - schedule.target(clean, noise, t)
    return WEIGHTS[weights](schedule, t, gamma) * jnp.mean(error**2, axis=tuple(range(1, error.ndim)))


def drop_conditions(
    key: jax.Array,
    text: jax.Array,
    null_text: jax.Array,
    tokens: jax.Array,
    *,
    p_text: float,
    p_tokens: float,
    p_both: float,
) -> tuple[jax.Array, jax.Array]:
    """Drops the text, the global tokens, or both of each sample, so that the model learns to go without.

    The three events are independent of each other: a sample loses its text with probability
    `1 - (1 - p_text) * (1 - p_both)`, and its tokens likewise.

    Args:
      key: a random key.
      text: [B, L, D] text embeddings.
      null_text: [L, D] or [B, L, D], the embedding of the empty prompt, which replaces dropped text.
      tokens: [B, K, D] global tokens; dropped ones become zeros.
      p_text, p_tokens, p_both: the probabilities, each from 0 to 1.

    Returns:
      text and tokens, some of them dropped; shapes and types as they came.
    """
    events = (
        jax.random.uniform(key, (3, text.shape[0], 1, 1)) < jnp.array([p_text, p_tokens, p_both])[:, None, None, None]
    )
    only_text, only_tokens, both = events
    text = jnp.where(only_text | both, null_text.astype(text.dtype), text)
    return text, jnp.where(only_tokens | both, jnp.zeros_like(tokens), tokens)


def sample_timesteps(key: jax.Array, batch: int, schedule: NoiseSchedule, steps: int = 0) -> jax.Array:
    """Timesteps for a batch, spread evenly: each is uniform over the schedule, and each of B equal ranges gets one.

    With `steps` above 0 they are uniform over those alone that sampling in so many steps visits.

    One random offset shifts an even grid (Kingma et al., Variational Diffusion Models, arXiv:2107.00630), which makes
    the mean loss of a small batch less noisy than independent draws do.

    Returns:
      [batch] int32.
    """
    visited = schedule.timesteps(steps)[::-1] if steps else np.arange(schedule.num_train_timesteps)
    levels = (jax.random.uniform(key) + jnp.arange(batch) / batch) % 1.0
    places = jnp.minimum((levels * len(visited)).astype(jnp.int32), len(visited) - 1)
    return jnp.asarray(visited, jnp.int32)[places]


def _uniform(schedule: NoiseSchedule, t: jax.Array, gamma: float) -> jax.Array:
    return jnp.ones(t.shape, jnp.float32)


def _min_snr(schedule: NoiseSchedule, t: jax.Array, gamma: float) -> jax.Array:
    """min(SNR, gamma) times the error of the clean latent (Hang et al., arXiv:2303.09556).

    That error is the prediction's, scaled by the prediction's weight in the clean latent. Written out, the weights are
    min(SNR, gamma) / SNR for epsilon, / (SNR + 1) for v, and / 1 for the clean latent itself.

    With zero terminal SNR these give 0 at the last timestep, where sampling begins. There SNR + 1 stands under the
    minimum instead (https://github.com/huggingface/diffusers/pull/5238): min(SNR + 1, gamma) / (SNR + 1) for v, / 1 for
    the clean latent, so that the last timestep weighs 1 in both. Epsilon has no such schedule.
    """
    _, weight = schedule.clean_weights(schedule.alpha, schedule.sigma)
    importance = schedule.snr(t) + schedule.rescale_betas_zero_snr
    return jnp.minimum(importance, gamma) * jnp.asarray(weight**2, jnp.float32)[t]


WEIGHTS = {"uniform": _uniform, "min_snr": _min_snr}
