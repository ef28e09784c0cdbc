"""What GlobalPaint's networks are trained to minimise, on many clips, or on the one that is to be outpainted.

    draws = objective.draw(key, batch)                          all that is random, for the whole batch: each [B, ...]
    losses = objective.losses(networks, batch, draws)           [B]

A batch is what `gp_jax.data.examples.make_example` makes, of several segments; what it holds decides whether latents
and features are computed here (`pixels`, `views`) or were precomputed (`latents`, `features`).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gp_jax.diffusion.losses import drop_conditions, sample_timesteps, training_loss
from gp_jax.diffusion.noise import segment_noise
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.methods.globalpaint.conditioning import clip_tokens, inpainting_condition
from gp_jax.methods.latents import complete, encode
from gp_jax.methods.placement import to_float
from gp_jax.metrics.i3d import i3d_distance
from gp_jax.metrics.perceptual import lpips_distance
from gp_jax.metrics.pixels import ssim_map
from gp_jax.models.clip import preprocess
from gp_jax.models.discriminator import Discriminator

Array = jax.Array
Batch = Mapping[str, Array]
# Weights of `Diffusion` whose terms compare frames, not latents.
LOOKS = ("perceptual", "structural", "flicker", "video", "adversarial")
_MATCHING = 10.0
_I3D_SIDE = 128  # pixels; FVD's 224 take three times as long


@dataclasses.dataclass(frozen=True)
class Diffusion:
    """The inpainting objective: predict noise, or v, of the whole latent, given what is observed of it.

    Attributes:
      schedule: the noise schedule, which says what is predicted.
      denoiser: the name of the UNet among the networks.
      latent_channels: of the latents.
      null_text: [1, L, D], for batches without text and for text that is dropped.
      weights, gamma: see `diffusion.losses.training_loss`.
      sampled_steps: above 0, only the timesteps that sampling in so many steps visits: a network that is sampled in one
        step is asked for the last one alone, which is a thousandth of what it is trained for otherwise.
      perceptual: weight of LPIPS between the true frames and what the prediction decodes to, observed pixels and known
        frames put back; needs `pixels`. Squared errors alone make means, which are soft; a network that has few steps,
        or predicts the clean latent, is as sharp as its loss asks for (as for consistency models, arXiv 2303.01469).
      structural: weight of 1 - SSIM of these frames, mean of all windows (Zhao et al. 2017, arXiv 1511.08861): LPIPS
        bears false edges where the truth is plain, such as those of an autoencoder's cells.
      flicker: weight of the absolute difference between the changes from frame to frame that these frames show and the
        true ones, pixels in [-1, 1]: sharp frames by themselves do not make a calm video.
      video: weight of `i3d_distance` between these frames and the true ones: LPIPS judges each frame by itself.
      adversarial: weight of what a discriminator thinks of these frames, see `adversary`; it is trained along, as the
        network `discriminator`.
      drop_text, drop_tokens, drop_both: probabilities of `diffusion.losses.drop_conditions`.
    """

    schedule: NoiseSchedule
    denoiser: str
    latent_channels: int
    null_text: Array
    weights: str
    gamma: float
    sampled_steps: int
    perceptual: float
    structural: float
    flicker: float
    video: float
    adversarial: float
    drop_text: float
    drop_tokens: float
    drop_both: float

    def draw(self, key: Array, batch: Batch) -> dict[str, Array]:
        """Noise, timesteps `t`, and a key per segment for what is dropped."""
        noise_key, time_key, drop_key = jax.random.split(key, 3)
        count, length = batch["frames"].shape
        shape = (count, length, *batch["latent_mask"].shape[1:], self.latent_channels)
        return {
            "noise": segment_noise(noise_key, shape, self.schedule.shared_noise),
            "t": sample_timesteps(time_key, count, self.schedule, self.sampled_steps),
            "drop": jax.random.split(drop_key, count),
        }

    def losses(self, networks: Mapping[str, Any], batch: Batch, draws: Batch) -> Array:
        """[B] float32, the weighted squared error of each segment."""
        clean, mask, masked, text, tokens = self.conditions(networks, batch, draws)
        noise, t = draws["noise"], draws["t"]
        noisy = self.schedule.add_noise(clean, noise, t)
        sample = jnp.concatenate([noisy, mask, masked], axis=-1)
        prediction = networks[self.denoiser](sample, t, text, tokens, batch["frames"])
        loss = training_loss(self.schedule, prediction, clean, noise, t, weights=self.weights, gamma=self.gamma)
        if self.compares_frames:
            loss += self.looks(networks, batch, self.schedule.to_clean(prediction, noisy, t))
        return loss

    @property
    def compares_frames(self) -> bool:
        """Whether the loss has terms of `looks`."""
        return any(getattr(self, term) for term in LOOKS)

    def conditions(
        self, networks: Mapping[str, Any], batch: Batch, draws: Batch
    ) -> tuple[Array, Array, Array, Array, Array | None]:
        """Clean latents, mask, masked-video latents, text and global tokens, some of the last two dropped."""
        text = batch.get("text", jnp.broadcast_to(self.null_text, (len(draws["t"]), *self.null_text.shape[1:])))
        return *self._latents(networks, batch), *jax.vmap(self._drop)(
            draws["drop"], text, self._tokens(networks, batch)
        )

    def looks(self, networks: Mapping[str, Any], batch: Batch, latents: Array) -> Array:
        """[B], the terms that compare frames: the true ones with what latents [B, T, h, w, C] decode to."""
        truth, unknown = to_float(batch["pixels"]), batch["pixel_mask"][:, None] * ~batch["known"][:, :, None, None]
        vae = networks["vae"]
        decoded = vae.decode(latents.reshape(-1, *latents.shape[2:]) / vae.config.scaling_factor)
        made = jnp.where(unknown[..., None] > 0, decoded.reshape(truth.shape), truth)
        loss = jnp.zeros(len(truth))
        if self.perceptual:
            distances = lpips_distance(*(x.reshape(-1, *x.shape[2:]) for x in (truth, made)))
            loss += self.perceptual * distances.reshape(truth.shape[:2]).mean(axis=1)
        if self.structural:
            loss += self.structural * _mean(1 - ssim_map(truth, made))
        if self.flicker:
            loss += self.flicker * _mean(jnp.abs(jnp.diff(made, axis=1) - jnp.diff(truth, axis=1)))
        if self.video:
            loss += self.video * i3d_distance(truth, made, _I3D_SIDE)
        if self.adversarial:
            fooled, told_apart = adversary(networks["discriminator"], truth, made, unknown)
            loss += self.adversarial * fooled + told_apart
        return loss

    def _latents(self, networks: Mapping[str, Any], batch: Batch) -> tuple[Array, Array, Array]:
        """Clean latents, mask and masked-video latents."""
        latent_mask, known = batch["latent_mask"][:, None], batch["known"]
        if "latents" in batch:
            clean, masked = (batch[name].astype(jnp.float32) for name in ("latents", "masked_latents"))
            return clean, *complete(masked, latent_mask, known, clean)
        pixels = to_float(batch["pixels"])
        clean = encode(networks["vae"], pixels)
        fill = networks[self.denoiser].config.masked_fill
        masks = batch["pixel_mask"][:, None], latent_mask
        return clean, *inpainting_condition(networks["vae"], pixels, *masks, known, clean, fill)

    def _tokens(self, networks: Mapping[str, Any], batch: Batch) -> Array | None:
        if "global_tokens" not in networks:
            return None
        where = batch["positions"], batch["times"], batch["valid"]
        if "features" in batch:
            return networks["global_tokens"](batch["features"], *where)
        tower, views = networks["clip"], batch["views"]
        seen = preprocess(to_float(views.reshape(-1, *views.shape[2:])), tower.config.image_size)
        return clip_tokens(tower, networks["global_tokens"], seen.reshape(*views.shape[:2], *seen.shape[1:]), *where)

    def _drop(self, key: Array, text: Array, tokens: Array | None) -> tuple[Array, Array | None]:
        """Of one segment. Without tokens only the text can be dropped."""
        known = jnp.zeros((1, 1, 1)) if tokens is None else tokens[None]
        dropped, left = drop_conditions(
            key,
            text[None],
            self.null_text,
            known,
            p_text=self.drop_text,
            p_tokens=self.drop_tokens,
            p_both=self.drop_both,
        )
        return dropped[0], None if tokens is None else left[0]


def adversary(critic: Discriminator, truth: Array, made: Array, unknown: Array) -> tuple[Array, Array]:
    """The game of two networks, as two losses whose sum one optimizer minimises: each has gradients for its own side.

    The non-saturating losses of Goodfellow et al. (2014, arXiv 1406.2661) of the patches that hold unknown pixels, and
    for the maker the distance of the discriminator's maps from those of the true frames (Wang et al. 2018, arXiv
    1711.11585, whose weight of it is 10).

    Args:
      critic: the discriminator.
      truth, made: [B, T, H, W, 3] in [-1, 1].
      unknown: [B, T, H, W] float, 1 where pixels were made.

    Returns:
      [B], the maker's loss, which moves `made` alone, and [B], the discriminator's, which moves `critic` alone.
    """
    graph, parameters = nnx.split(critic)
    judge = nnx.merge(graph, jax.lax.stop_gradient(parameters))
    (fake, maps), (_, goals) = judge(made, unknown), judge(truth, unknown)
    places = jax.image.resize(unknown, fake.shape, "linear")
    shares = places / jnp.maximum(places.sum(axis=(1, 2, 3), keepdims=True), 1.0)
    distance = sum(_mean(jnp.abs(ours - theirs)) for ours, theirs in zip(maps, goals)) / len(maps)
    fooled = (shares * jax.nn.softplus(-fake)).sum(axis=(1, 2, 3)) + _MATCHING * distance
    (fake, _), (real, _) = critic(jax.lax.stop_gradient(made), unknown), critic(truth, unknown)
    return fooled, (shares * (jax.nn.softplus(fake) + jax.nn.softplus(-real))).sum(axis=(1, 2, 3))


def _mean(x: Array) -> Array:
    """[N, ...] -> [N]."""
    return x.mean(axis=tuple(range(1, x.ndim)))
