"""The loss on clips that training never sees: always the same few batches, with the same noise."""

import contextlib
import functools
import itertools
from collections.abc import Mapping

import jax
import numpy as np

from gp_jax.fit.state import State
from gp_jax.fit.step import on_mesh
from gp_jax.jobs.side_by_side import at_once, side_by_side
from gp_jax.parallel import use_mesh
from gp_jax.training.setup import Run, open_data


class Validation:
    """The first batches of the split `validation`, which stay on the devices; compiled when it is made.

    Args:
      run: of `prepare`.
      state, frozen: of any step, for their shapes and places.

    Raises:
      UserError: the records have no such split.
    """

    def __init__(self, run: Run, state: State, frozen: Mapping[str, jax.Array]):
        self._mesh = run.mesh
        with contextlib.closing(open_data(run, split="validation")) as loader:
            turns = loader.specs
            specs = [turns[i % len(turns)] for i in range(run.config.validation.batches)]
            self._batches = [on_mesh(next(loader), spec, run.mesh) for spec in specs]

        def loss(state, frozen, batch, seed):
            networks = run.networks.bind({**frozen, **state["params"], **state["average"]})
            return run.objective.losses(networks, batch, run.objective.draw(jax.random.key(seed), batch)).mean()

        def compile_loss(batch):
            with use_mesh(self._mesh):
                return jax.jit(loss).lower(state, frozen, batch, np.uint32(0)).compile()

        sizes = self._batches[: len(turns)]  # frame sizes take turns, and each has its program
        works = [functools.partial(compile_loss, batch) for batch in sizes]
        self._programs = side_by_side(works, at_once(run.mesh.devices.flat[0], len(works)))

    def __call__(self, state: State, frozen: Mapping[str, jax.Array]) -> jax.Array:
        """The mean loss of the averaged weights; nobody has waited for it yet."""
        with use_mesh(self._mesh):
            programs = itertools.cycle(self._programs)
            losses: list[jax.Array] = [
                program(state, frozen, x, np.uint32(seed))
                for seed, (x, program) in enumerate(zip(self._batches, programs))
            ]
            return sum(losses[1:], start=losses[0]) / len(losses)
