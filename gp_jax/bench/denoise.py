"""One call of a configuration's denoising network, as sampling makes it: one segment a row, one branch of guidance.

    row = bench_denoising(run, model_flops(config, trace_denoising), repeats=10)

Parameters are held in the type in which the network computes, as they are when clips are outpainted.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.bench.case import Row, budget_of
from gp_jax.bench.measure import CALLS_IN_A_ROW, compiled, peak_bytes, random_batch, random_weights, timed
from gp_jax.checkpoint.parameters import bind
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.errors import UserError
from gp_jax.fit.state import placed
from gp_jax.fit.step import batch_shardings
from gp_jax.models.layers import for_loops
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.unet_config import UNetConfig
from gp_jax.parallel import parameter_shardings, use_mesh
from gp_jax.training.budget import batch_shapes
from gp_jax.training.config import STAGES
from gp_jax.training.networks import within
from gp_jax.training.setup import Run

Shapes = dict[str, jax.ShapeDtypeStruct]


def trace_denoising(run: Run, calls: int = 1) -> jax.stages.Traced:
    """So many calls, each of which waits for what the one before made."""
    module = run.networks.modules[denoiser_of(run)]

    def call(parameters: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> jax.Array:
        network = for_loops(bind(module, parameters))

        def turn(sample: jax.Array, _: None) -> tuple[jax.Array, None]:
            made = network(**{**inputs, "sample": sample})
            latents, conditions = jnp.split(sample, [made.shape[-1]], axis=-1)
            return jnp.concatenate([latents + 1e-6 * made, conditions], axis=-1), None

        return jax.lax.scan(turn, inputs["sample"], length=calls)[0]

    with use_mesh(run.mesh):
        return jax.jit(call).trace(*argument_shapes(run))


def bench_denoising(run: Run, model_flops: float, *, repeats: int) -> Row:
    """Compiles the call, and runs it `repeats` times unless that is 0; arguments as for `step.bench_step`."""
    inputs, shapes = input_shapes(run), _parameters(run)
    program, compile_seconds = compiled(lambda: trace_denoising(run, CALLS_IN_A_ROW).lower())
    budget = budget_of(program, shapes)
    share = run.config.batch_size / run.mesh.size
    model_flops, frames = model_flops * share, inputs["sample"].shape[1] * share
    if not repeats:
        return Row(run, budget, model_flops, frames)
    parameters, batch = random_weights(shapes), random_batch(inputs, run.mesh)
    again = functools.partial(program, parameters, batch)
    times = timed(again, repeats, CALLS_IN_A_ROW)
    return Row(
        run, budget, model_flops, frames, compile_seconds, times, peak_bytes(), again=again, in_a_row=CALLS_IN_A_ROW
    )


def argument_shapes(run: Run) -> tuple[Shapes, Shapes]:
    """Of the traced program: parameters and inputs, in their places."""
    inputs = input_shapes(run)
    return _parameters(run), placed(inputs, batch_shardings(inputs, run.mesh))


def input_shapes(run: Run) -> Shapes:
    """Of the network's call, by the names of its arguments."""
    config, batch = run.networks.configs[denoiser_of(run)], batch_shapes(run)
    rows, length = batch["frames"].shape
    sample = jax.ShapeDtypeStruct((rows, length, *batch["latent_mask"].shape[1:], config.in_channels), jnp.float32)
    times = jax.ShapeDtypeStruct((rows,), jnp.float32)
    return {"sample": sample, "timesteps": times, **_CONDITIONS[type(config)](run, config, batch)}


def denoiser_of(run: Run) -> str:
    """The component that denoises; raises UserError where the stage has none."""
    name = STAGES[run.config.stage].denoiser
    if name not in run.networks.configs:
        raise UserError(f"the stage {run.config.stage} has no denoising network")
    return name


def _parameters(run: Run) -> Shapes:
    """In the type in which the network computes, each in its place."""

    def narrow(parameter: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        dtype = jnp.dtype(run.config.dtype) if is_floating(parameter) else parameter.dtype
        return jax.ShapeDtypeStruct(parameter.shape, dtype)

    shapes = {name: narrow(x) for name, x in within(denoiser_of(run), run.networks.shapes).items()}
    return placed(shapes, parameter_shardings(shapes, run.mesh))


def _of_unet(run: Run, config: UNetConfig, batch: Shapes) -> Shapes:
    rows, width = batch["frames"].shape[0], config.cross_attention_dim
    text = batch.get("text", jax.ShapeDtypeStruct((rows, 1, width), np.float32))
    conditions = {"text": text, "frames": batch["frames"]}
    if extractor := run.networks.configs.get("global_tokens"):
        conditions["tokens"] = jax.ShapeDtypeStruct((rows, extractor.tokens, width), np.float32)
    return conditions


def _of_m3ddm(run: Run, config: M3DDMConfig, batch: Shapes) -> Shapes:
    (rows, frames), cells = batch["clip"].shape[:2], batch["latent_mask"].shape[1:]
    latents = jax.ShapeDtypeStruct((rows, frames, *cells, config.out_channels), jnp.float32)
    network: Any = run.networks.modules["m3ddm"]
    shapes = within("m3ddm", run.networks.shapes)
    tokens = jax.eval_shape(lambda parameters, x: bind(network, parameters).encode_global(x), shapes, latents)
    return {"rates": batch["rate"], "tokens": tokens}


_CONDITIONS: dict[type, Callable[[Run, Any, Shapes], Shapes]] = {UNetConfig: _of_unet, M3DDMConfig: _of_m3ddm}
