"""The loss on clips that training never sees: always the same few batches, with the same noise."""

import contextlib
from collections.abc import Mapping

import jax

from gp_jax.parallel import use_mesh
from gp_jax.training.setup import Run, open_data
from gp_jax.training.state import State
from gp_jax.training.step import on_mesh


class Validation:
    """The first batches of the split `validation`, which stay on the devices.

    Raises:
      UserError: the records have no such split.
    """

    def __init__(self, run: Run):
        self._mesh = run.mesh
        with contextlib.closing(open_data(run, split="validation")) as loader:
            specs = [loader.specs[i % len(loader.specs)] for i in range(run.config.validation.batches)]
            self._batches = [on_mesh(next(loader), spec, run.mesh) for spec in specs]

        def loss(state, frozen, batch, key):
            networks = run.networks.bind({**frozen, **state["params"], **state["average"]})
            return run.objective.losses(networks, batch, run.objective.draw(key, batch)).mean()

        self._loss = jax.jit(loss)

    def __call__(self, state: State, frozen: Mapping[str, jax.Array]) -> jax.Array:
        """The mean loss of the averaged weights; nobody has waited for it yet."""
        with use_mesh(self._mesh):
            losses = [self._loss(state, frozen, x, jax.random.key(i)) for i, x in enumerate(self._batches)]
            return sum(losses) / len(losses)
