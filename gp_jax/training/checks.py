"""What a run needs of the world around it, looked for before anything is compiled.

    run = prepare(config)            the configuration, by itself
    check_inputs(run, workdir)       data and their splits, checkpoint, memory, the clip that samples show, the log

Nothing of this is kept: whoever needs a thing later opens it again.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gp_jax.errors import UserError
from gp_jax.metrics.perceptual import MIN_SIDES
from gp_jax.metrics.pixels import ssim
from gp_jax.models.attention import check_kernel
from gp_jax.training.budget import check_memory
from gp_jax.training.config import STAGES
from gp_jax.training.log import check_log
from gp_jax.training.networks import check_sources
from gp_jax.training.samples import check_sample
from gp_jax.training.setup import Run, open_data


def check_inputs(run: Run, workdir: Path) -> None:
    """Raises UserError, in one sentence, for the first thing that is missing or does not fit."""
    check_sources(run.networks, run.networks.frozen)
    device = run.mesh.devices.flat[0]
    check_kernel(run.config.attention, device.platform)
    check_log(workdir)
    splits = {"train": 1} | ({"validation": run.config.validation.batches} if run.config.validation.interval else {})
    for split, batches in splits.items():
        # Whole batches, which nobody reads: the list of this process's rows may itself be too much for the memory.
        with contextlib.closing(open_data(run, split=split, whole=True)) as loader:
            for spec in loader.specs:
                _check_batch(run, spec)
                check_memory(run, spec, batches)
    if run.config.samples.interval:
        check_sample(run)


def _check_batch(run: Run, spec: Mapping[str, Any]) -> None:
    """What only the data themselves tell: sizes that the networks have to share."""
    unet, extractor = (run.networks.configs.get(name) for name in (STAGES[run.config.stage].denoiser, "global_tokens"))
    height, width = spec["pixel_mask"].shape[1:]
    if height % run.multiple or width % run.multiple:
        raise UserError(
            f"frames of {width}x{height} pixels do not fit the networks: sides are multiples of {run.multiple}"
        )
    meet = []  # (part of a batch, the network's, its width)
    if unet:
        meet += [("latents", "UNet's out_channels", unet.out_channels)]
        meet += [("text", "UNet's cross_attention_dim", unet.cross_attention_dim)]
    if extractor:
        meet += [("features", "extractor's feature_width", extractor.feature_width)]
    for part, whose, width in meet:
        if part in spec and spec[part].shape[-1] != width:
            raise UserError(
                f"the precomputed {part} are {spec[part].shape[-1]} wide and the {whose} is {width}: precompute them "
                "with the networks that training uses"
            )
    needs = {"perceptual": ("LPIPS", MIN_SIDES["alex"]), "structural": ("SSIM", ssim.min_side)}
    for term, (metric, least) in needs.items():
        if run.config.objective.get(term) and (side := min(spec["pixels"].shape[2:4])) < least:
            raise UserError(f"config.objective.{term}: frames of {side} pixels a side are too small for {metric}")
