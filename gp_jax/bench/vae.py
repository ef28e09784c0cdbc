"""The autoencoder of a configuration: segments of frames to latents, and latents to frames.

    run = prepare_case(with_pixels(config), devices, segments=2)
    row = bench_part(run, model_flops(config, trace_part("encode")), part="encode", repeats=10)

It computes in float32 whatever the configuration's type; frames of a segment are encoded one by one, as everywhere.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gp_jax.bench.case import Row, budget_of
from gp_jax.bench.measure import compiled, peak_bytes, random_batch, random_weights, timed
from gp_jax.checkpoint.parameters import bind
from gp_jax.fit.state import placed
from gp_jax.fit.step import batch_shardings
from gp_jax.methods.latents import encode
from gp_jax.models.autoencoder import AutoencoderKL
from gp_jax.parallel import parameter_shardings, use_mesh
from gp_jax.training.budget import batch_shapes
from gp_jax.training.networks import within
from gp_jax.training.setup import Run

Shapes = dict[str, jax.ShapeDtypeStruct]
PARTS: dict[str, Callable[[AutoencoderKL, jax.Array], jax.Array]] = {
    "encode": encode,  # [B, T, H, W, 3] -> [B, T, h, w, C]
    "decode": lambda vae, latents: vae.decode(latents.reshape(-1, *latents.shape[2:])),  # and back, to [B * T, H, W, 3]
}


def with_pixels(config: ConfigDict) -> ConfigDict:
    """The configuration with all its networks, also those whose work may have been done before."""
    chosen = config.copy_and_resolve_references()
    chosen.data.precomputed = False
    return chosen


def trace_part(part: str) -> Callable[[Run], jax.stages.Traced]:
    """run -> a part of `PARTS`, for the batch of the configuration."""

    def trace(run: Run) -> jax.stages.Traced:
        network: Any = run.networks.modules["vae"]

        def call(parameters: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> jax.Array:
            return PARTS[part](bind(network, parameters), inputs["given"])

        inputs = _inputs(run, part)
        with use_mesh(run.mesh):
            return jax.jit(call).trace(_parameters(run), placed(inputs, batch_shardings(inputs, run.mesh)))

    return trace


def bench_part(run: Run, model_flops: float, *, part: str, repeats: int) -> Row:
    """Compiles a part, and runs it `repeats` times unless that is 0; arguments as for `step.bench_step`."""
    inputs, shapes = _inputs(run, part), _parameters(run)
    program, compile_seconds = compiled(lambda: trace_part(part)(run).lower())
    share = run.config.batch_size / run.mesh.size
    frames = inputs["given"].shape[1] * share
    make = functools.partial(Row, run, budget_of(program, shapes), model_flops * share, frames, part=part)
    if not repeats:
        return make()
    weights, batch = random_weights(shapes), random_batch(inputs, run.mesh)
    again = functools.partial(program, weights, batch)
    return make(compile_seconds=compile_seconds, times=timed(again, repeats), peak_bytes=peak_bytes(), again=again)


def _parameters(run: Run) -> Shapes:
    shapes = within("vae", run.networks.shapes)
    return placed(shapes, parameter_shardings(shapes, run.mesh))


def _inputs(run: Run, part: str) -> Shapes:
    pixels = batch_shapes(run)["pixels"].shape
    channels = run.networks.configs["vae"].latent_channels
    cells = (side // run.config.data.downsampling for side in pixels[2:4])
    shape = pixels if part == "encode" else (*pixels[:2], *cells, channels)
    return {"given": jax.ShapeDtypeStruct(shape, jnp.float32)}
