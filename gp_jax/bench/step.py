"""What the training step of a configuration costs on some devices: counted, and, where they are here, timed.

    run = prepare_case(config, devices, segments=2)
    row = bench_step(run, model_flops(config, trace_step), repeats=10)
    row.times.median, row.budget.temporaries

Data are not needed, nor a checkpoint: parameters and batches are random, and neither changes the cost.
"""

import jax

from gp_jax.bench.case import Row
from gp_jax.bench.measure import compiled, peak_bytes, random_batch, random_weights, timed
from gp_jax.fit.state import State, make_state
from gp_jax.parallel import use_mesh
from gp_jax.training.budget import Budget, batch_shapes, check_memory, count, frozen_shapes, lower
from gp_jax.training.setup import Run


def check_step(run: Run) -> None:
    """Raises UserError where there is no memory here for the step."""
    check_memory(run, batch_shapes(run))


def trace_step(run: Run) -> jax.stages.Traced:
    """The step for batches as the configuration asks for them."""
    with use_mesh(run.mesh):
        return jax.jit(run.step).trace(run.state, frozen_shapes(run), batch_shapes(run))


def bench_step(run: Run, model_flops: float, *, repeats: int) -> Row:
    """Compiles the step, and runs it `repeats` times unless that is 0.

    Args:
      run: of `prepare_case`.
      model_flops: of one segment.
      repeats: to take the time of.
    """
    share = run.config.batch_size / run.mesh.size
    model_flops, frames = model_flops * share, run.config.data.segment_frames * share
    if not repeats:
        return Row(run, count(run), model_flops, frames)
    shapes = batch_shapes(run)
    program, compile_seconds = compiled(lambda: lower(run, shapes))
    state = make_state(random_weights(run.state["params"]), run.networks.multipliers, run.optimizer, run.mesh)
    frozen, batch = random_weights(frozen_shapes(run)), random_batch(shapes, run.mesh)

    def update() -> State:
        nonlocal state
        state, _ = program(state, frozen, batch)
        return state

    times = timed(update, repeats)
    budget = Budget.of(run, program)
    return Row(run, budget, model_flops, frames, compile_seconds, times, peak_bytes(), again=update)
