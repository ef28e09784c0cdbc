"""A training run, from its configuration to a checkpoint folder.

    train(load_config("configs/tiny.py:keyframes"), Path("W"))

leaves in W: `log.jsonl` and `tensorboard/` (log.py), `state/` (checkpoints.py), `samples/`, and at the end
`checkpoint/`, which `gp-jax outpaint --checkpoint` and the next stage's `--init-from` take. The same call goes on where
an earlier one stopped or was killed; what a step sees and draws depends on the seed and the step alone.
"""

import contextlib
import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gp_jax.checkpoint.components import WEIGHTS_FILE
from gp_jax.checkpoint.parameters import flatten
from gp_jax.checkpoint.training_state import Checkpoints, signature_of
from gp_jax.data import Loader
from gp_jax.data.shards import sha256
from gp_jax.errors import UserError
from gp_jax.files import locked
from gp_jax.fit.optimizer import learning_rate
from gp_jax.fit.state import State, make_state
from gp_jax.fit.step import compile_step, on_mesh
from gp_jax.jobs.side_by_side import at_once, side_by_side
from gp_jax.methods.placement import to_float
from gp_jax.parallel.processes import on_first
from gp_jax.training.checks import check_inputs
from gp_jax.training.config import STAGES
from gp_jax.training.export import export_checkpoint
from gp_jax.training.linear_latents import fit_linear_latents
from gp_jax.training.log import Log
from gp_jax.training.networks import initial
from gp_jax.training.samples import sample_file, write_sample
from gp_jax.training.setup import Run, open_data, prepare
from gp_jax.training.speed import Clock
from gp_jax.training.stopping import Stop
from gp_jax.training.validation import Validation

_FRAMES_FOR_LATENTS = 600
_AHEAD = 2  # steps that wait in the device's queue, each with its batch


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    mesh: Mesh | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,
    show: Callable[[Mapping[str, Any]], None] = lambda line: None,
    evaluate: Callable[[Path, int], Mapping[str, float | None]] | None = None,
) -> bool:
    """Trains, or goes on training.

    Args:
      config: see config.py.
      workdir: the run's own folder, seen by all of its processes.
      mesh: by default that of `config.mesh`, over all devices.
      progress: called with (steps done, steps in all, what is being done).
      show: called with each line of the log, on the first process.
      evaluate: (checkpoint folder, step) -> numbers for the log; called whenever samples are made.

    Returns:
      True at the end, False where SIGTERM came before; then the state is saved.

    Raises:
      Stopped: SIGTERM or Ctrl-C came before the first step, or while something was made of a state that is saved. A
        thread may still be at work on that, so the process should end.
      UserError: the configuration contradicts itself, data, checkpoint or what was trained in `workdir` do not fit it,
        the disk is full, more than `max_nonfinite` steps were not finite, or another program trains in `workdir`.
    """
    with Stop() as stop, contextlib.ExitStack() as opened:

        def begin() -> _Start:
            return _begin(config, workdir, mesh, progress, opened)

        run, loader, checkpoints, state, frozen, hashes, programs, validate = stop.during(
            begin, "before its first step: what was saved before stands"
        )
        first, rate = int(state["step"]), learning_rate(config.optimizer, config.steps)
        log = opened.enter_context(contextlib.closing(Log(workdir, first, show)))

        def look(done: int, again: bool = True) -> None:
            """Makes what people look at of the state after `done` steps, which is saved."""
            if done and config.samples.interval and done % config.samples.interval == 0:
                work = functools.partial(_look, run, workdir, state, done, log, evaluate, again)
                stop.during(work, f"while it made the sample of step {done}, whose state is saved")

        look(first, again=False)
        clock, queue = Clock(programs, config.microbatches), deque()
        for step in range(first, config.steps):
            turn = loader.turn
            batch = on_mesh(next(loader), loader.specs[turn], run.mesh)
            state, summary = programs[turn](state, frozen, batch)
            done, last = step + 1, step + 1 == config.steps
            queue.append(summary)
            if len(queue) > _AHEAD:
                jax.block_until_ready(queue.popleft())
            clock.tick()
            progress(done, config.steps, "training")
            stopping = stop.agreed(run.mesh)

            if last or done % config.log_interval == 0:
                _check_finite(queue[0], config.max_nonfinite)
                now = float(np.asarray(rate(step)))
                log.add(done, **summary, rate=now, broken_records=len(loader.skipped), **clock.read())
            if validate and done % config.validation.interval == 0:
                log.add(done, validation_loss=validate(state, frozen))
            sampled = config.samples.interval and done % config.samples.interval == 0
            if last or stopping or sampled or done % config.checkpoints.interval == 0:
                log.flush()  # a checkpoint has the whole log before it
                meta = {"data": loader.get_state(), "signature": signature_of(run.state), "frozen": hashes}
                meta |= run.describe()
                checkpoints.save(done, state, meta)
            else:
                checkpoints.check()
            if stopping and not last:
                return False
            if sampled:
                checkpoints.wait()
                look(done)

        checkpoints.wait()
        stop.during(lambda: _finish(run, workdir, state, loader), "while it wrote the checkpoint: the state is saved")
    return True


class _Start(NamedTuple):
    """All that the first step needs."""

    run: Run
    loader: Loader
    checkpoints: Checkpoints
    state: State
    frozen: dict[str, jax.Array]
    hashes: dict[str, str]
    programs: list[jax.stages.Compiled]
    validate: Validation | None


def _begin(
    config: ConfigDict,
    workdir: Path,
    mesh: Mesh | None,
    progress: Callable[[int, int, str], None],
    opened: contextlib.ExitStack,
) -> _Start:
    """Reads and compiles; what has to be closed goes to `opened`. A finished run gets no programs."""
    run = prepare(config, mesh)
    check_inputs(run, workdir)
    if jax.process_index() == 0:
        opened.enter_context(locked(workdir))
    loader = opened.enter_context(contextlib.closing(open_data(run)))
    checkpoints = opened.enter_context(Checkpoints(workdir, config.checkpoints.keep))
    progress(0, config.steps, "reading")
    frozen = initial(run.networks, run.networks.frozen, run.mesh)
    hashes = on_first(lambda: _hashes(run))
    state = _restore(run, checkpoints, loader, hashes) or _fresh(run)
    first, count = int(state["step"]), len(loader.specs)
    if first > config.steps:
        raise UserError(
            f"{workdir} was trained for {first} steps, and config.steps is {config.steps}: give {first} or more, or "
            "another --workdir"
        )
    if first == config.steps:
        return _Start(run, loader, checkpoints, state, frozen, hashes, [], None)

    def tell(compiled: int) -> None:
        progress(first, config.steps, f"compiling, {compiled} of {count} done")

    tell(0)
    compiling = [functools.partial(compile_step, run.step, state, frozen, spec, run.mesh) for spec in loader.specs]
    programs = side_by_side(compiling, at_once(run.mesh.devices.flat[0], count), tell)
    validate = Validation(run, state, frozen) if config.validation.interval else None
    return _Start(run, loader, checkpoints, state, frozen, hashes, programs, validate)


def _look(
    run: Run,
    workdir: Path,
    state: State,
    done: int,
    log: Log,
    evaluate: Callable[[Path, int], Mapping[str, float | None]] | None,
    again: bool,
) -> None:
    """A sample, and the numbers of `evaluate`; the sample comes last, so that it says that all of it was done."""

    def work() -> None:
        if again or not sample_file(workdir, done).exists():
            numbers = evaluate(folder, done) if evaluate else {}
            write_sample(folder, workdir, done, run.config.samples)
            if numbers:
                log.add(done, **numbers)
                log.flush()

    try:
        folder = _export(run, workdir, state)
        on_first(work)
    except UserError as error:
        raise UserError(f"step {done} is saved, but its sample failed: {error}") from error


def _finish(run: Run, workdir: Path, state: State, loader: Loader) -> None:
    if STAGES[run.config.stage].objective == "reconstruction" and not run.networks.configs["vae"].linear_latents:
        spec = loader.specs[loader.turn]
        run = _with_latents_scaled(run, state, on_mesh(next(loader), spec, run.mesh))
    _export(run, workdir, state)


def _fresh(run: Run) -> State:
    params = initial(run.networks, run.networks.live, run.mesh)
    networks = run.networks
    if run.config.stage == "autoencoder" and networks.configs["vae"].linear_latents and not networks.sources["vae"]:
        params = _with_linear_latents(run, params)
    return make_state(params, run.networks.multipliers, run.optimizer, run.mesh)


def _with_linear_latents(run: Run, params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Linear latents are computed from the first batches; every process does it for itself, from the same frames."""
    vae = run.networks.bind(params)["vae"]
    with contextlib.closing(open_data(run, whole=True)) as loader:
        batches = [next(loader)["pixels"] for _ in range(-(-_FRAMES_FOR_LATENTS // run.config.batch_size))]
    frames = [x.reshape(-1, *x.shape[2:]) / np.float32(127.5) - 1.0 for x in batches]
    fit_linear_latents(vae, frames, run.config.objective.jitter)
    fitted = {f"vae.{name}": x for name, x in flatten(vae).items()}
    return {name: jax.device_put(fitted[name], x.sharding) for name, x in params.items()}


def _hashes(run: Run) -> dict[str, str]:
    """By component, what the networks that are not trained are told by, wherever their checkpoint lies."""
    sources = {component: run.networks.sources[component] for component in run.networks.frozen}
    return {component: sha256(source / WEIGHTS_FILE) for component, source in sources.items() if source}


def _restore(run: Run, checkpoints: Checkpoints, loader: Loader, hashes: Mapping[str, str]) -> State | None:
    found = checkpoints.restore(run.state, signature_of(run.state))
    if found is None:
        return None
    state, meta = found
    before = meta.get("frozen", {})  # not in states of earlier versions
    if others := [name for name, hashed in hashes.items() if before.get(name, hashed) != hashed]:
        raise UserError(
            f"{checkpoints.folder} was trained beside another {others[0]} than that of {run.origin}: start from the "
            "checkpoint that it began with, or give another --workdir"
        )
    loader.set_state(meta["data"])
    return state


def _export(run: Run, workdir: Path, state: State) -> Path:
    return export_checkpoint(
        workdir,
        run.networks,
        state,
        origin=run.origin,
        settings=run.settings.to_json(),
        scheduler=run.schedule.to_config(),
    )


def _with_latents_scaled(run: Run, state: State, batch: Mapping[str, jax.Array]) -> Run:
    """The autoencoder's config gets the factor that gives latents unit deviation, as 0.18215 does in SD."""

    @jax.jit
    def deviation(params, pixels):
        mean, _ = run.networks.bind(params)["vae"].encode(to_float(pixels.reshape(-1, *pixels.shape[2:])))
        return jnp.std(mean)

    factor = 1.0 / float(deviation({**state["params"], **state["average"]}, batch["pixels"]))
    vae = dataclasses.replace(run.networks.configs["vae"], scaling_factor=factor)
    return dataclasses.replace(run, networks=dataclasses.replace(run.networks, configs={"vae": vae}))


def _check_finite(summary: Mapping[str, jax.Array], limit: int) -> None:
    skipped = int(summary["skipped"])
    if skipped > limit:
        raise UserError(
            f"{skipped} steps had a loss or a gradient that was not finite, and config.max_nonfinite allows {limit}: "
            "lower optimizer.rate, or look at the data"
        )
