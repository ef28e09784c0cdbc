"""The LoRA that GlobalPaint's networks get of the clip at hand, before they outpaint it: `--adapt STEPS`.

What is observed becomes the whole frame, of the size that the networks work at, and its sides are hidden as training
hides them (data/examples.py); the networks learn to make these, by the objective that they were trained with:

    clip, 176x144, to 16:9      canvas 256x144, of which 176x144 are observed
    for the fit                 a frame of 176x144 brought to 112x80, and of each example some sides hidden

Segments have the strides of the plan, and are as noisy as the sampler will see them: where it takes one step, training
at other timesteps would be lost. The key-frame network gets a LoRA of its own, and so does the interpolation
network, its boundary frames known; a network that does the work of both is shown both kinds in turns.

    lora = ClipLora(checkpoint, mesh, clip, canvas, plan, options, timesteps, text, null_text, work)
    lora.calls(journal)                                  its programs, to be compiled and counted
    lora.fit(journal, timed, progress)                   the work
    lora.networks                                        the two networks with their LoRA merged; the checkpoint stays
"""

import dataclasses
import functools
import itertools
import math
import numbers
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import ShapeDtypeStruct as Shape
from jax.sharding import Mesh

from gp_jax.checkpoint.adapters import Adapter, apart, merged
from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import bind, flatten
from gp_jax.convert.lora_names import written
from gp_jax.convert.lora_writers import write_peft
from gp_jax.data.config import DataConfig
from gp_jax.data.examples import make_example
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import check_file
from gp_jax.geometry import Canvas
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.programs import Call
from gp_jax.jobs.spool import Spool, check_room
from gp_jax.methods.adaptation import Adaptation, Fitted
from gp_jax.methods.globalpaint.objective import Diffusion
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.method import Clip, Progress, observed
from gp_jax.methods.placement import Placement, shrink
from gp_jax.methods.segments import Plan, Segment
from gp_jax.methods.streams import CHUNK_FRAMES, native_frames
from gp_jax.models import remat
from gp_jax.models.low_rank import DOWN, beside, fresh
from gp_jax.models.unet import UNet
from gp_jax.parallel.gather import placed, whole
from gp_jax.parallel.processes import is_first

Array = jax.Array

RANK = 16
LAYERS = r".*\.(query|key|value|output)"  # of all attention, that of space and time too
LEAST_CELLS = 2  # of the autoencoder, on either side of a clip: fewer have no inside and no outside
SHRINK = "adapt-shrink"
LABELS = {"unet": "adapting key frames", "interpolation_unet": "adapting interpolation"}


@dataclasses.dataclass(frozen=True)
class SegmentLoss:
    """The networks' own objective, of a segment whose pictures are all there.

    Attributes:
      schedule: of the noise.
      channels: of the latents.
      remat: what is kept for the backward pass, a name of `remat.REMAT`.
    """

    schedule: NoiseSchedule
    channels: int
    remat: str

    def __call__(
        self, updates: Mapping[str, Array], frozen: Mapping[str, Any], batch: Mapping[str, Array], key: Array
    ) -> Array:
        """See `methods.adaptation`."""
        objective = Diffusion(
            self.schedule,
            "unet",
            self.channels,
            null_text=frozen["null_text"],
            weights="uniform",
            gamma=5.0,
            sampled_steps=0,
            perceptual=0.0,
            structural=0.0,
            flicker=0.0,
            video=0.0,
            adversarial=0.0,
            drop_text=0.05,
            drop_tokens=0.05,
            drop_both=0.05,
        )
        unet = beside(frozen["unet"], updates)
        remat.keep(unet, self.remat)
        draws = {**objective.draw(key, batch), "t": batch["t"]}
        return objective.losses({**frozen, "unet": unet}, batch, draws).mean()


class ClipLora:
    """A fit that is decided on, and its outcome.

    Args:
      checkpoint: networks and settings.
      mesh: the devices, None for a single one.
      clip, canvas, plan: what is to be made.
      options: `adapt` steps at the rate `adapt_rate`, and `save_lora`.
      timesteps: of the sampler.
      text: [1, L, D] embedding of the prompt, None for none.
      null_text: [1, L, D].
      work: a folder for frames that memory does not hold.

    Attributes:
      networks: for key frames and between them; those of the checkpoint until `fit`.
      fitted: by component.

    Raises:
      UserError: there is nothing to learn from or for, or no place for the file or for the frames.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        mesh: Mesh | None,
        clip: Clip,
        canvas: Canvas,
        plan: Plan,
        options: Options,
        timesteps: Sequence[float],
        text: np.ndarray | None,
        null_text: np.ndarray,
        work: Path | None,
    ):
        self.checkpoint, self.mesh, self.clip, self.options = checkpoint, mesh, clip, options
        self.work = work if is_first() else None  # of several processes one keeps files there
        self.text, self.null_text = text, null_text
        most = checkpoint.schedule.num_train_timesteps - 1
        self.timesteps = np.clip(np.rint(timesteps), 0, most).astype(np.int32)
        self.networks = checkpoint.unet, checkpoint.interpolation_unet
        self.fitted: dict[str, Fitted] = {}
        cell = checkpoint.vae.config.downsampling
        self.source = Canvas.from_pads(canvas.source_height, canvas.source_width, 0, 0, 0, 0)
        _check(checkpoint, canvas, cell, options)
        native = self.source.native(checkpoint.settings.native_area, cell)
        self.place, self.shape = Placement.of(self.source, native, cell), (native.height, native.width, 3)
        check_room(len(clip), self.shape, self.work)
        self.examples = self._examples(plan, cell)

    def calls(self, journal: Journal | None) -> list[Call]:
        """The programs, as often as they are left to be called."""
        chunk = Shape((CHUNK_FRAMES, self.source.height, self.source.width, 3), np.uint8)
        fits = [adaptation.call(journal) for adaptation in self.adaptations.values()]
        chunks = -(-len(self.clip) // CHUNK_FRAMES) if any(call.times for call in fits) else 0
        return [Call(SHRINK, shrink, (chunk, self.place), times=chunks), *fits]

    def fit(self, journal: Journal | None, timed: Callable[[str], AbstractContextManager], progress: Progress) -> None:
        """Fits, or takes from the journal what was fitted before, and writes the file that was asked for.

        Args:
          journal: of the job.
          timed: what a step is made in, by the name of its stage.
          progress: called with (steps done, steps in all, what is adapted).
        """
        with Spool(len(self.clip), self.shape, self.work) as spool:
            if self.calls(journal)[0].times:
                source = observed(self.clip, self.source, range(len(self.clip)))
                spool.fill(native_frames(source, self.place))
            pictures = _Pictures(spool, len(self.clip), self.checkpoint.settings.segment_frames)
            for name, adaptation in self.adaptations.items():
                self.fitted[name] = adaptation.run(
                    functools.partial(self._batch, pictures, name),
                    journal,
                    lambda done, total, _, name=name: progress(done, total, LABELS[name]),
                    functools.partial(timed, adaptation.name),
                )
        adapters = {name: apart(fitted.updates)[1] for name, fitted in self.fitted.items()}
        made = {name: self._merged(getattr(self.checkpoint, name), adapter) for name, adapter in adapters.items()}
        between = made["unet"] if self._is_shared else made.get("interpolation_unet", self.networks[1])
        self.networks = made["unet"], between
        if self.options.save_lora and is_first():
            parts = {name: (made[name].config, adapter) for name, adapter in adapters.items()}
            write_peft(self.options.save_lora, parts)

    @functools.cached_property
    def adaptations(self) -> dict[str, Adaptation]:
        """By component, the fits."""
        assert self.options.adapt is not None and self.options.adapt_rate is not None
        checkpoint, blank = self.checkpoint, np.broadcast_to(np.float32(0), (len(self.clip), *self.shape))
        pictures = _Pictures(blank, len(blank), checkpoint.settings.segment_frames)
        frozen = {"vae": checkpoint.vae, "null_text": self.null_text}
        if checkpoint.vision is not None and checkpoint.extractor is not None:
            frozen |= {"clip": checkpoint.vision, "global_tokens": checkpoint.extractor}
        # What a device's own memory holds is scarce, and of a CPU its time.
        kept = "none" if jax.default_backend() == "cpu" else "all"
        loss = SegmentLoss(checkpoint.schedule, checkpoint.vae.config.latent_channels, kept)
        made = {}
        for name in self.examples:
            network = getattr(checkpoint, name)
            tensors = flatten(network)
            layers = [layer for layer in written(name, network.config) if re.fullmatch(LAYERS, layer)]
            kernels = {layer: tensors[f"{layer}.kernel"].shape for layer in layers}
            made[name] = Adaptation(
                name=f"adapt-{name}",
                loss=loss,
                updates=fresh(kernels, RANK, self.options.seed),
                frozen={**frozen, "unet": network},
                shapes={key: Shape(x.shape, x.dtype) for key, x in self._batch(pictures, name, 0).items()},
                steps=self.options.adapt,
                rate=self.options.adapt_rate,
                seed=self.options.seed,
                mesh=self.mesh,
            )
        return made

    @property
    def _is_shared(self) -> bool:
        """Whether one network does the work of both."""
        return self.checkpoint.interpolation_unet is self.checkpoint.unet

    def _examples(self, plan: Plan, cell: int) -> dict[str, list[DataConfig]]:
        """By component, how examples are drawn, in turns."""
        settings, vision = self.checkpoint.settings, self.checkpoint.vision
        sizes = {"segment_frames": settings.segment_frames, "downsampling": cell}
        if vision is not None and self.checkpoint.extractor is not None:
            config = vision.config
            sizes |= {"feature_frames": settings.feature_frames, "view_size": config.image_size}
            sizes |= {"view_patch": config.patch_size}
        make = functools.partial(DataConfig, ("the clip",), flip=False, **sizes)
        key_frames, *levels = plan.levels
        found = {"unet": [make(strides=tuple(map(_stride, key_frames)))]}
        if levels:
            name = "unet" if self._is_shared else "interpolation_unet"
            strides = tuple(_stride(segment) for level in levels for segment in level)
            found.setdefault(name, []).append(make(strides=strides, known="ends"))
        return found

    def _batch(self, pictures: "_Pictures", name: str, step: int) -> dict[str, np.ndarray]:
        """One example, of seed, network and step alone."""
        configs = self.examples[name]
        rng = np.random.default_rng([self.options.seed, list(LABELS).index(name), step])
        made = {"t": rng.choice(self.timesteps)} | make_example(
            pictures, self.shape[:2], rng, configs[step % len(configs)]
        )
        return {key: x[None] for key, x in made.items()} | ({} if self.text is None else {"text": self.text})

    def _merged(self, network: UNet, adapter: Adapter) -> UNet:
        """The network with other kernels, one of them whole at a time; all else is shared with it."""
        tensors = flatten(network)
        for layer, update in adapter.items():
            kernel = tensors[name := f"{layer}.kernel"]
            made = np.asarray(merged({name: whole(kernel)}, {layer: update})[name]).astype(kernel.dtype)
            tensors[name] = placed(made, kernel.sharding) if self.mesh else jax.device_put(made)
        return bind(network, tensors)


class _Pictures:
    """A clip at the networks' size, as examples are made of it; a short one stands still at its end.

    Args:
      frames: by index, float [H, W, 3] in [-1, 1].
      count: of them.
      least: frames that it shall have.
    """

    frame_rate = 0.0  # which none of these examples tells

    def __init__(self, frames: Any, count: int, least: int):
        self.frames, self.last, self.num_frames = frames, count - 1, max(count, least)

    def read(self, indices: Iterable[int]) -> np.ndarray:
        """[len(indices), H, W, 3] uint8."""
        return np.stack([np.rint((self.frames[min(i, self.last)] + 1) * 127.5).astype(np.uint8) for i in indices])


def _stride(segment: Segment) -> int:
    """Between neighbours, evenly spread as they are but for rounding."""
    steps = sum(a < b for a, b in itertools.pairwise(segment.times))
    return max(1, round((segment.times[-1] - segment.times[0]) / max(1, steps)))


def _check(checkpoint: Checkpoint, canvas: Canvas, cell: int, options: Options) -> None:
    height, width = canvas.source_height, canvas.source_width
    steps, rate = options.adapt, options.adapt_rate
    if not isinstance(steps, int) or steps < 1 or not isinstance(rate, numbers.Real) or not 0 < rate < math.inf:
        raise UserError(f"adapt is a number of steps from 1 on, and adapt_rate one above 0, not {steps!r} and {rate!r}")
    if canvas.is_complete:
        raise UserError(
            f"the clip fills its canvas of {width}x{height} pixels: there is nothing to adapt for; leave adapt out"
        )
    if min(height, width) < LEAST_CELLS * cell:
        raise UserError(
            f"the clip has {width}x{height} pixels, too few to learn from: adapt takes {LEAST_CELLS * cell} at least "
            "on each side"
        )
    if any(
        name.endswith(DOWN) for network in (checkpoint.unet, checkpoint.interpolation_unet) for name in flatten(network)
    ):
        raise UserError("adapt adds to the weights, and a LoRA lies beside them (fuse_lora=False): merge it")
    if options.save_lora and is_first():
        check_file(options.save_lora)
