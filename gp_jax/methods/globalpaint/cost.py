"""What a checkpoint costs, from its programs and without making a clip: parameters, FLOPs, memory.

    program_cost(pipeline, canvas, num_frames=70)   -> ProgramCost(parameters=..., flops=..., memory=...)

FLOPs and memory are what XLA says of the denoising network's program, whose calls are counted by the plan. Encoding,
decoding and the extractor run once per frame or once per clip and are left out.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import flatten
from gp_jax.geometry import Canvas
from gp_jax.jobs.programs import flops_of
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.models.unet import UNet
from gp_jax.parallel import use_mesh


class ProgramCost(NamedTuple):
    """Parameters of all networks; FLOPs per frame of the clip; bytes of one call, its parameters among them."""

    parameters: int
    flops: float
    memory: int


def program_cost(
    pipeline: OutpaintPipeline, canvas: Canvas, num_frames: int, *, plan: str = "hierarchical", steps: int | None = None
) -> ProgramCost:
    """The cost of outpainting without a prompt, at the checkpoint's own guidance, one segment at a time.

    Args:
      pipeline: with the checkpoint.
      canvas: the target frame.
      num_frames: of the clip; the plan's segments overlap, and how much depends on it.
      plan, steps: those of `OutpaintPipeline.stream`.
    """
    checkpoint = pipeline.checkpoint
    segments = sum(map(len, PLANS[plan](num_frames, checkpoint.settings.segment_frames).levels))
    calls = segments * (steps or checkpoint.settings.steps)
    with use_mesh(pipeline.mesh):
        traced = _denoising(checkpoint, canvas)
        memory = traced.lower().compile().memory_analysis()
    assert memory is not None  # XLA has it for every kind of device
    used = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    # Counted before XLA puts kernels of its own in, which it cannot count.
    return ProgramCost(_parameters(checkpoint), calls * flops_of(traced.jaxpr.jaxpr) / num_frames, used)


def _parameters(checkpoint: Checkpoint) -> int:
    """Of all networks; one that does the work of two counts once."""
    networks = (getattr(checkpoint, field.name) for field in dataclasses.fields(checkpoint))
    distinct = {id(network): network for network in networks if isinstance(network, nnx.Module)}
    return sum(math.prod(leaf.shape) for network in distinct.values() for leaf in flatten(network).values())


def _denoising(checkpoint: Checkpoint, canvas: Canvas) -> jax.stages.Traced:
    """One call of the key-frame network for a segment, with as many rows as guidance takes."""
    settings, unet = checkpoint.settings, checkpoint.unet
    cell = checkpoint.vae.config.downsampling
    native = canvas.native(settings.native_area, cell)
    tokens = None if checkpoint.extractor is None else checkpoint.extractor.config.tokens
    # The branches of `diffusion.guidance.guide`: without a prompt one or two.
    rows = 1 if tokens is None or settings.guidance in (0.0, 1.0) else 2

    def array(*shape: int, dtype: type = jnp.float32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *shape), dtype)

    width = unet.config.cross_attention_dim
    return jax.jit(_call).trace(
        unet,
        array(settings.segment_frames, native.height // cell, native.width // cell, unet.config.in_channels),
        array(),
        array(*checkpoint.embed("").shape[1:]),
        None if tokens is None else array(tokens, width),
        array(settings.segment_frames, dtype=jnp.int32),
    )


def _call(unet: UNet, *inputs: Any) -> jax.Array:
    return unet(*inputs)
