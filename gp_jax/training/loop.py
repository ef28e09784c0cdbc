"""A training run, from its configuration to a checkpoint folder.

    train(load_config("configs/tiny.py:keyframes"), Path("W"))

leaves in W: `log.jsonl` and `tensorboard/` (log.py), `state/` (checkpoints.py), `samples/`, and at the end
`checkpoint/`, which `gp-jax outpaint --checkpoint` and the next stage's `--init-from` take. The same call goes on where
an earlier one stopped or was killed; what a step sees and draws depends on the seed and the step alone.
"""

import contextlib
import dataclasses
import signal
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gp_jax.data import Loader
from gp_jax.errors import UserError
from gp_jax.files import locked
from gp_jax.pipelines.conditioning import to_float
from gp_jax.training.checkpoints import Checkpoints, signature_of
from gp_jax.training.config import STAGES
from gp_jax.training.export import write_checkpoint
from gp_jax.training.linear_latents import fit_linear_latents
from gp_jax.training.log import Log
from gp_jax.training.networks import initial
from gp_jax.training.optimizer import learning_rate
from gp_jax.training.samples import write_sample
from gp_jax.training.setup import Run, open_data, prepare
from gp_jax.training.speed import Clock
from gp_jax.training.state import State, make_state
from gp_jax.training.step import compile_step, on_mesh
from gp_jax.training.validation import Validation
from gp_jax.weights import flatten

_FRAMES_FOR_LATENTS = 600
_AHEAD = 2  # steps that wait in the device's queue, each with its batch


def train(
    config: ConfigDict,
    workdir: Path,
    *,
    mesh: Mesh | None = None,
    progress: Callable[[int, int, str], None] = lambda done, total, label: None,
    show: Callable[[Mapping[str, Any]], None] = lambda line: None,
    evaluate: Callable[[Path, int], Mapping[str, float]] | None = None,
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
      UserError: the configuration contradicts itself, data or checkpoint do not fit it, the disk is full, or more than
        `max_nonfinite` steps were not finite, or another program trains in `workdir`.
    """
    run = prepare(config, mesh)
    with (
        locked(workdir) if jax.process_index() == 0 else contextlib.nullcontext(),
        contextlib.closing(open_data(run)) as loader,
        Checkpoints(workdir, config.checkpoints.keep) as checkpoints,
        _sigterm() as terminated,
    ):
        progress(0, config.steps, "reading")
        frozen = initial(run.networks, run.networks.frozen, run.mesh)
        state = _restore(run, checkpoints, loader) or _start(run)
        first, rate = int(state["step"]), learning_rate(config.optimizer, config.steps)
        if first == config.steps:
            _finish(run, workdir, state, loader)
            return True

        programs = []
        for number, spec in enumerate(loader.specs):
            progress(first, config.steps, f"compiling {number + 1} of {len(loader.specs)}")
            programs.append(compile_step(run.step, state, frozen, spec, run.mesh))
        validate = Validation(run) if config.validation.interval else None
        clock, queue = Clock(programs, config.microbatches), deque()

        with contextlib.closing(Log(workdir, first, show)) as log:
            for step in range(first, config.steps):
                batch = on_mesh(next(loader), loader.specs[step % len(programs)], run.mesh)
                state, summary = programs[step % len(programs)](state, frozen, batch)
                done, last = step + 1, step + 1 == config.steps
                queue.append(summary)
                if len(queue) > _AHEAD:
                    jax.block_until_ready(queue.popleft())
                clock.tick()
                progress(done, config.steps, "training")

                stop = _agreed(terminated, done)
                if last or done % config.log_interval == 0:
                    _check_finite(queue[0], config.max_nonfinite)
                    log.add(done, **summary, rate=float(rate(step)), broken_records=len(loader.skipped), **clock.read())
                if validate and done % config.validation.interval == 0:
                    log.add(done, validation_loss=validate(state, frozen))
                if not stop and config.samples.interval and done % config.samples.interval == 0:
                    folder = _export(run, workdir, state)
                    write_sample(folder, workdir, done, config.samples)
                    if evaluate:
                        log.add(done, **evaluate(folder, done))
                if last or stop or done % config.checkpoints.interval == 0:
                    log.flush()  # a checkpoint has the whole log before it
                    meta = {"data": loader.get_state(), "signature": signature_of(run.state), **run.describe()}
                    checkpoints.save(done, state, meta)
                if stop and not last:
                    return False

        checkpoints.wait()
        _finish(run, workdir, state, loader)
    return True


def _finish(run: Run, workdir: Path, state: State, loader: Loader) -> None:
    if STAGES[run.config.stage].objective == "reconstruction" and not run.networks.configs["vae"].linear_latents:
        spec = loader.specs[run.config.steps % len(loader.specs)]
        run = _with_latents_scaled(run, state, on_mesh(next(loader), spec, run.mesh))
    _export(run, workdir, state)


def _start(run: Run) -> State:
    params = initial(run.networks, run.networks.live, run.mesh)
    if run.config.stage == "autoencoder" and run.networks.configs["vae"].linear_latents:
        params = _with_linear_latents(run, params)
    return make_state(params, run.networks.multipliers, run.optimizer, run.mesh)


def _with_linear_latents(run: Run, params: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Linear latents are computed from the first batches; every process does it for itself, from the same frames."""
    vae = run.networks.bind(params)["vae"]
    with contextlib.closing(open_data(run, whole=True)) as loader:
        batches = [next(loader)["pixels"] for _ in range(-(-_FRAMES_FOR_LATENTS // run.config.batch_size))]
    fit_linear_latents(vae, [x.reshape(-1, *x.shape[2:]) / np.float32(127.5) - 1.0 for x in batches])
    fitted = {f"vae.{name}": x for name, x in flatten(vae).items()}
    return {name: jax.device_put(fitted[name], x.sharding) for name, x in params.items()}


def _restore(run: Run, checkpoints: Checkpoints, loader: Loader) -> State | None:
    found = checkpoints.restore(run.state, signature_of(run.state))
    if found is None:
        return None
    state, meta = found
    loader.set_state(meta["data"])
    return state


def _export(run: Run, workdir: Path, state: State) -> Path:
    return write_checkpoint(
        workdir,
        run.networks,
        state,
        stage=run.config.stage,
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


@contextlib.contextmanager
def _sigterm() -> Iterator[list[int]]:
    """A list that is no longer empty once SIGTERM came to the only process; several have jax's own handler."""
    came: list[int] = []
    if jax.process_count() > 1:
        yield came
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, before)


def _agreed(terminated: list[int], step: int) -> bool:
    """Whether to stop after this step: all processes say the same."""
    if jax.process_count() == 1:
        return bool(terminated)
    return multihost_utils.reached_preemption_sync_point(step)
