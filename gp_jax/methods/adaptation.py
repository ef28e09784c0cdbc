"""A LoRA fitted to the one clip at hand, before the clip is outpainted.

A network that has seen a million clips is told once more what this one looks like: parts of what is observed play the
unknown, and low-rank updates beside its kernels (models/low_rank.py) learn to make them. The idea and the numbers of
the optimizer are MOTIA's (Wang et al. 2024, arXiv 2403.13745).

    adaptation = Adaptation("adapt-unet", loss, fresh(kernels, 16, seed), {"unet": unet}, shapes, steps=800, seed=42)
    prepare([adaptation.call(journal)])                          compiles the update, and counts it, for the estimate
    fitted = adaptation.run(batches, journal, progress)          fitted.updates, fitted.losses

    def loss(updates, frozen, batch, key):                       pure; or an instance of a frozen dataclass
        unet = beside(frozen["unet"], updates, scale=8.0)
        return jnp.mean(...)

One program does an update; it depends on shapes, on the loss and on the rate, so that clips of one size share it. What
is random in it comes from `key`, which derives from the seed and the number of the step; so does, if its author minds
it, what `batches(step)` gives. With a journal the state is kept every `SECONDS`, and a fit that was killed at any
moment ends with the same bits.
"""

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gp_jax.errors import UserError
from gp_jax.fit.optimizer import make_optimizer
from gp_jax.fit.state import State, abstract_state, make_state, state_shardings
from gp_jax.fit.step import Objective, make_step
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.kept import Program
from gp_jax.jobs.programs import Call
from gp_jax.methods.method import Progress, quiet
from gp_jax.parallel import use_mesh
from gp_jax.parallel.gather import whole
from gp_jax.parallel.processes import on_first
from gp_jax.seeds import random_key

Array = jax.Array
# (updates by name, what is frozen, the step's batch, a key) -> what is minimised, float32 [].
Loss = Callable[[Mapping[str, Array], Any, Mapping[str, Array], Array], Array]

SECONDS = 20.0  # between two states that a journal keeps
LOSSES = "losses"  # among the arrays of a piece
# What MOTIA's authors have, beside the rate: AdamW, the norm of the gradient clipped.
_OPTIMIZER = {"b1": 0.9, "b2": 0.999, "weight_decay": 1e-2, "clip_norm": 1.0}
_CONSTANT = {"schedule": "constant", "warmup": 0, "final": 1.0}


class Fitted(NamedTuple):
    """What a fit gives.

    Attributes:
      updates: float32, by the names that they began with.
      losses: [steps] float32, the loss before each update; NaN where it was not finite and nothing was changed.
    """

    updates: dict[str, np.ndarray]
    losses: np.ndarray


@dataclass(frozen=True)
class Adaptation:
    """Updates that are to be fitted to a clip, and all that the outcome depends on but the clip.

    Attributes:
      name: of the stage of work, and of its pieces in a journal.
      loss: hashable. A method's own frozen dataclass is kept for the next process, as all programs are; a function is
        not, and has to be the same object in all calls, or it is compiled anew.
      updates: float32, what the fit begins with; see `models.low_rank.fresh`.
      frozen: networks, and arrays in their places.
      shapes: of a batch, by name.
      steps: how many updates.
      rate: of the optimizer, constant.
      seed: of the keys.
      mesh: the devices, None for a single one.
    """

    name: str
    loss: Loss
    updates: Mapping[str, np.ndarray]
    frozen: Any
    shapes: Mapping[str, jax.ShapeDtypeStruct]
    steps: int
    rate: float = 1e-4
    seed: int = 0
    mesh: Mesh | None = None

    def call(self, journal: Journal | None = None) -> Call:
        """How the program will be called, as often as is left to do."""
        static = {"loss": self.loss, "rate": self.rate}
        done = 0
        if journal is not None:
            done = self.steps if journal.has(self.name) else len((journal.find(self._state) or {LOSSES: ()})[LOSSES])
        arguments = self._abstract(), self.frozen, dict(self.shapes), random_key(self.seed)
        return Call(self.name, update, arguments, static, times=self.steps - done)

    def run(
        self,
        batches: Callable[[int], Mapping[str, Any]],
        journal: Journal | None = None,
        progress: Progress = quiet,
        timed: Callable[[], AbstractContextManager] = nullcontext,
    ) -> Fitted:
        """Fits, or goes on with it.

        Args:
          batches: a function of the number of the step, which gives arrays of `shapes`.
          journal: where the state and the outcome are kept, None for nowhere.
          progress: called with (steps done, steps in all, name).
          timed: what a step is made in; see `gp_jax.jobs.rates.Clock`.

        Raises:
          UserError: the loss was not finite in a tenth of the steps.
        """
        if journal is None:
            made = self._fit(batches, journal, progress, timed)
        else:
            made = journal.piece(self.name, lambda: self._fit(batches, journal, progress, timed))
            journal.drop(self._state)
        return Fitted({name: made[name] for name in self.updates}, made[LOSSES])

    @property
    def _state(self) -> str:
        """Under which the journal has it."""
        return f"{self.name}.state"

    def _fit(self, batches: Callable, journal: Journal | None, progress: Progress, timed: Callable) -> dict[str, Any]:
        state, losses = self._begin(journal)
        key, kept = random_key(self.seed), time.monotonic()
        progress(len(losses), self.steps, self.name)
        with use_mesh(self.mesh):
            for step in range(len(losses), self.steps):
                with timed():
                    state, loss = update(state, self.frozen, batches(step), key, loss=self.loss, rate=self.rate)
                    losses.append(np.float32(loss))
                self._check(losses)
                progress(step + 1, self.steps, self.name)
                due = time.monotonic() - kept > SECONDS
                if journal is not None and on_first(lambda due=due: due):
                    journal.keep(self._state, _flat(state) | {LOSSES: np.array(losses)})
                    kept = time.monotonic()
            params = whole(state["params"])
        return {name: np.asarray(x) for name, x in params.items()} | {LOSSES: np.array(losses, np.float32)}

    def _begin(self, journal: Journal | None) -> tuple[State, list[np.float32]]:
        """State and losses as far as the journal knows."""
        found = None if journal is None else journal.find(self._state)
        if found is None:
            places = self._abstract()["params"]
            params = {name: self._placed(x, places[name]) for name, x in self.updates.items()}
            return make_state(params, tuple(params), _optimizer(tuple(params), self.rate), self.mesh), []
        leaves, tree = jax.tree_util.tree_flatten_with_path(self._abstract())
        state = [self._placed(found[jax.tree_util.keystr(path)], like) for path, like in leaves]
        return jax.tree.unflatten(tree, state), list(found[LOSSES])

    def _placed(self, x: np.ndarray, like: jax.ShapeDtypeStruct) -> Array:
        x = x.astype(like.dtype, copy=False).reshape(like.shape)
        # A copy, since the memory is given to the next state.
        if self.mesh is None:
            return jnp.array(x)
        return jax.make_array_from_callback(like.shape, like.sharding, lambda index: np.array(x[index]))

    def _abstract(self) -> State:
        shapes = {name: jax.ShapeDtypeStruct(x.shape, np.float32) for name, x in self.updates.items()}
        return abstract_state(shapes, tuple(shapes), _optimizer(tuple(shapes), self.rate), self.mesh)

    def _check(self, losses: list[np.float32]) -> None:
        lost = int(np.isnan(losses).sum())
        if 10 * lost > self.steps:
            raise UserError(
                f"no LoRA can be fitted to this clip: the loss was not finite in {lost} of {len(losses)} steps; ask "
                "for a lower rate, or for float32"
            )


@functools.partial(Program, static_argnames=("loss", "rate"), donates=True)
def update(
    state: State, frozen: Any, batch: Mapping[str, Array], key: Array, *, loss: Loss, rate: float
) -> tuple[State, Array]:
    """One step of a fit: the next state, and the loss before it, NaN where it changed nothing.

    Args:
      state: of `make_state`; donated.
      frozen, batch: what the loss is given.
      key: of all steps.
      loss, rate: see `Adaptation`.
    """
    trained = tuple(state["params"])

    def draw(_: Array, batch: Mapping[str, Array]) -> dict[str, Array]:
        return {"key": jax.random.fold_in(key, state["step"])}

    def losses(params: Mapping[str, Array], batch: Mapping[str, Array], draws: Mapping[str, Array]) -> Array:
        return loss({name: params[name] for name in trained}, frozen, batch, draws["key"])[None]

    step = make_step(Objective(draw, losses), trained, _optimizer(trained, rate), seed=0, ema=0.0)
    state, summary = step(state, {}, batch)
    if not (mesh := jax.sharding.get_abstract_mesh()).empty:
        state = jax.lax.with_sharding_constraint(state, state_shardings(state, mesh))
    return state, jnp.where(state["sums"]["steps"] > 0, summary["loss"], jnp.nan)


def _optimizer(names: tuple[str, ...], rate: float) -> optax.GradientTransformationExtraArgs:
    return make_optimizer(ConfigDict({"rate": rate, **_CONSTANT, **_OPTIMIZER}), 1, dict.fromkeys(names, 1.0))


def _flat(state: State) -> dict[str, np.ndarray]:
    """By the way to each array."""
    leaves = jax.tree_util.tree_leaves_with_path(whole(state))
    return {jax.tree_util.keystr(path): np.asarray(x) for path, x in leaves}
