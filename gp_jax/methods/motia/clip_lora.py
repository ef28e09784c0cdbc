"""The LoRA that MOTIA's motion modules get of the clip at hand, before they outpaint it.

The first 16 frames of the clip, as large as they are in the canvas, become the whole frame. In each step some of each
side is hidden from the ControlNet, in all frames alike, and the UNet learns to predict the noise of all latents:

    updates    rank 16, on queries, keys and values of both attentions and on both layers of the feed-forward of each
               module, times 8: 7,854,080 parameters of mm_sd_v15_v2
    hidden     of each side a part from 0 to 0.4
    timestep   from 0 to 999, all alike

The optimizer is that of ../adaptation.py, which has MOTIA's numbers.

Source: https://github.com/G-U-N/Be-Your-Outpainter (53748d1). Its first layer of the feed-forward never gets the update
that it is meant to have, because of a wrong attribute's name; here it does, as in the paper.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import cv2
import jax
import jax.numpy as jnp
import numpy as np
from jax import ShapeDtypeStruct as Shape
from jax.sharding import Mesh

from gp_jax.checkpoint.adapters import apart
from gp_jax.checkpoint.folder import Parts
from gp_jax.checkpoint.parameters import flatten
from gp_jax.convert.lora_writers import write_peft
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import check_file
from gp_jax.geometry import Canvas
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.kept import Program
from gp_jax.jobs.programs import Call
from gp_jax.methods.adaptation import Adaptation
from gp_jax.methods.latents import encode
from gp_jax.methods.method import Clip, Progress, observed
from gp_jax.methods.motia.options import Options
from gp_jax.methods.motia.plan import LENGTH
from gp_jax.methods.placement import to_float
from gp_jax.models import remat
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.models.low_rank import DOWN, beside, fresh
from gp_jax.models.unet import UNet
from gp_jax.parallel import use_mesh
from gp_jax.parallel.processes import is_first

Array = jax.Array

RANK, SCALE = 16, 8.0
LAYERS = r".*\.motion\.(\d+\.)?(attention\.\d\.(query|key|value)|feed_forward\.(expand|contract))"
MOST_HIDDEN = 0.4  # of each side
FIT, ENCODE = "motia adapt", "motia adapt-encode"


@dataclasses.dataclass(frozen=True)
class NoiseLoss:
    """What is minimised; see the module's docstring.

    Attributes:
      schedule: of the noise.
      remat: what is kept for the backward pass, a name of `remat.REMAT`.
    """

    schedule: NoiseSchedule
    remat: str

    def __call__(
        self, updates: Mapping[str, Array], frozen: Mapping[str, Any], batch: Mapping[str, Array], key: Array
    ) -> Array:
        """See `methods.adaptation`; a batch is that of `ClipLora.batch`."""
        noise_key, time_key, mask_key = jax.random.split(key, 3)
        latents, pictures = batch["latents"], batch["pictures"]
        noise = jax.random.normal(noise_key, latents.shape)
        t = jax.random.randint(time_key, latents.shape[:1], 0, self.schedule.num_train_timesteps)
        noisy = self.schedule.add_noise(latents, noise, t)
        hidden = hidden_sides(mask_key, pictures.shape[2:4])[..., None]
        residuals = frozen["controlnet"](noisy, t, frozen["text"], jnp.where(hidden, -1.0, pictures))
        unet = beside(frozen["unet"], updates, SCALE)
        remat.keep(unet, self.remat)
        predicted = unet(noisy, t, frozen["text"], residuals=residuals)
        return jnp.mean((predicted.astype(jnp.float32) - noise) ** 2)


def hidden_sides(key: Array, size: tuple[int, ...]) -> Array:
    """[H, W] bool: of each of the four sides of a frame of that size, a part of its own."""
    parts = jax.random.uniform(key, (2, 2), maxval=MOST_HIDDEN)

    def along(length: int, part: Array) -> Array:
        before, after = jnp.floor(part * length)
        at = jnp.arange(length)
        return (at < before) | (at >= length - after)

    return along(size[0], parts[0])[:, None] | along(size[1], parts[1])[None]


@Program
def encode_clip(vae: AutoencoderKL, frames: Array) -> tuple[Array, Array]:
    """uint8 [1, T, H, W, 3] -> latents [1, T, h, w, C], and what the ControlNet sees, [1, T, H, W, 3] in [0, 1]."""
    pixels = to_float(frames)
    return encode(vae, pixels), 0.5 * (pixels + 1.0)


class ClipLora:
    """A fit that is decided on, and its outcome.

    Args:
      parts: `unet`, `controlnet`, `vae` and the schedule.
      mesh: the devices, None for a single one.
      clip, canvas: what is to be made.
      native: the canvas at the networks' size.
      text: [1, L, D] embedding of the prompt, or of none.
      options: what was asked for.

    Attributes:
      unet: with updates, those that the fit begins with until it is done.

    Raises:
      UserError: there are updates already, or the file that was asked for cannot be written.
    """

    def __init__(
        self,
        parts: Parts,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        native: Canvas,
        text: np.ndarray,
        options: Options,
    ):
        assert options.adapt is not None
        self.parts, self.mesh, self.clip, self.canvas, self.save = parts, mesh, clip, canvas, options.save_lora
        cell = parts.networks["vae"].config.downsampling
        sides = native.source_height, native.source_width
        self.size = tuple(cell * max(1, round(side / cell)) for side in sides)
        network: UNet = parts.networks["unet"]
        if has_updates(network):
            raise UserError(
                "adapt adds a LoRA to the motion modules, and one was given by --lora: leave one of them out"
            )
        if self.save and is_first():
            check_file(self.save)
        updates = first_updates(network, options.seed)
        self.network, self.unet = network, beside(network, jax.tree.map(jnp.asarray, updates), SCALE)
        # What a device's own memory holds is scarce, and of a CPU its time.
        kept = "none" if jax.default_backend() == "cpu" else "all"
        count, channels = min(LENGTH, len(clip)), parts.networks["vae"].config.latent_channels
        cells = tuple(side // cell for side in self.size)
        self.adaptation = Adaptation(
            name=FIT,
            loss=NoiseLoss(parts.schedule, kept),
            updates=updates,
            frozen={"unet": network, "controlnet": parts.networks["controlnet"], "text": text},
            shapes={
                "latents": Shape((1, count, *cells, channels), np.float32),
                "pictures": Shape((1, count, *self.size, 3), np.float32),
            },
            steps=options.adapt,
            seed=options.seed,
            mesh=mesh,
        )

    def calls(self, journal: Journal | None) -> list[Call]:
        """Its programs, as often as they will be called."""
        fit = self.adaptation.call(journal)
        frames = Shape(self.adaptation.shapes["pictures"].shape, np.uint8)
        return [Call(ENCODE, encode_clip, (self.parts.networks["vae"], frames), times=min(1, fit.times)), fit]

    def fit(self, journal: Journal | None, timed: Callable[[str], AbstractContextManager], progress: Progress) -> None:
        """Fits, or takes from the journal what was fitted before, and writes the file that was asked for.

        Args:
          journal: of the job.
          timed: what a step is made in, by the name of its stage.
          progress: called with (steps done, steps in all, what is done).
        """
        fitted = self.adaptation.run(
            lambda _: self._batch,
            journal,
            lambda done, total, _: progress(done, total, "adapting"),
            functools.partial(timed, FIT),
        )
        self.unet = beside(self.network, jax.tree.map(jnp.asarray, fitted.updates), SCALE)
        if self.save and is_first():
            write_peft(self.save, {"unet": (self.network.config, apart(fitted.updates, SCALE)[1])})

    @functools.cached_property
    def _batch(self) -> dict[str, Array]:
        """The same in all steps."""
        count, (height, width) = self.adaptation.shapes["latents"].shape[1], self.size
        frames = [
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
            for frame in observed(self.clip, self.canvas, range(count))
        ]
        with use_mesh(self.mesh):
            latents, pictures = encode_clip(self.parts.networks["vae"], np.stack(frames)[None])
        return {"latents": latents, "pictures": pictures}


def first_updates(network: UNet, seed: int) -> dict[str, np.ndarray]:
    """What the fit begins with, by the names of parameters."""
    kernels = {
        name.removesuffix(".kernel"): x.shape
        for name, x in flatten(network).items()
        if re.fullmatch(rf"{LAYERS}\.kernel", name)
    }
    return fresh(kernels, RANK, seed)


def has_updates(network: UNet) -> bool:
    """Whether a LoRA lies beside its weights."""
    return any(name.endswith(f".{DOWN}") for name in flatten(network))
