"""The training state on disk: saved beside the training, found again after whatever happened.

    W/state/1200/state/      the arrays of state.py, by Orbax, from any number of processes
    W/state/1200/meta        JSON: what the networks are built from, where data stood, what the arrays are

    with Checkpoints(W, keep=2) as checkpoints:
        found = checkpoints.restore(abstract, signature)
        checkpoints.save(step, state, meta)            copies the arrays, writes them while training goes on

A directory gets its name when all of it is written, so that a process that dies while saving leaves the ones before.
Arrays are restored onto the mesh of the state that is asked for, be it that of the run that saved them or not.
"""

import contextlib
import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from gp_jax.errors import UserError
from gp_jax.training.state import State

FOLDER = "state"


class Checkpoints:
    """The checkpoints of a working directory.

    Args:
      workdir: made where it does not exist.
      keep: how many of the newest are kept.
    """

    def __init__(self, workdir: Path, keep: int):
        self.folder = (workdir / FOLDER).absolute()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {self.folder}: {error.strerror}") from error
        self._options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=False)
        self._manager = ocp.CheckpointManager(self.folder, options=self._options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if kind is None:
            self._guarded(self._manager.close)
        else:  # what went wrong first is what matters
            with contextlib.suppress(Exception):
                self._manager.close()

    def save(self, step: int, state: State, meta: Mapping[str, Any]) -> None:
        """Begins to save; raises UserError where the save before it failed, as on a full disk."""
        items = {"state": ocp.args.StandardSave(state), "meta": ocp.args.JsonSave(dict(meta))}
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items), force=True))

    def check(self) -> None:
        """Raises UserError where what is being saved has failed already; waits for nothing."""
        self._guarded(self._manager.check_for_errors)

    def wait(self) -> None:
        """Until what was begun is on disk; raises UserError where that failed."""
        self._guarded(self._manager.wait_until_finished)

    def restore(self, state: State, signature: str) -> tuple[State, dict[str, Any]] | None:
        """The newest state that can be read, and its `meta`; None where there is none at all.

        Damaged ones are named, and put aside so that their step can be saved again.

        Args:
          state: `abstract_state`, the shapes and places wanted.
          signature: of `signature_of`; that of the checkpoint must be equal.

        Raises:
          UserError: the checkpoint is of another configuration, or all of them are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        wanted = ocp.args.StandardRestore(state)
        for step in steps:
            try:
                meta = self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())).meta
                if meta["signature"] != signature:
                    raise UserError(
                        f"{self.folder / str(step)} was saved by another configuration, whose networks or trained "
                        "parameters differ: use that one, or another --workdir"
                    )
                found = self._manager.restore(step, args=ocp.args.Composite(state=wanted)).state
            except UserError:
                raise
            except Exception as error:  # whatever a broken file makes a reader raise
                reason = str(error).strip().partition("\n")[0][:200]
                print(f"gp-jax: checkpoint {step} is damaged and passed over ({reason})", file=sys.stderr)
                continue
            self._put_aside([damaged for damaged in steps if damaged > step])
            return found, meta
        if steps:
            raise UserError(f"all checkpoints in {self.folder} are damaged: move them away to start again")
        return None

    def _put_aside(self, steps: list[int]) -> None:
        if not steps:
            return
        if jax.process_index() == 0:
            for step in steps:
                aside = self.folder.with_name(f"damaged-{step}")
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoints are put aside")
        self._manager.close()
        self._manager = ocp.CheckpointManager(self.folder, options=self._options)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except (OSError, ValueError, RuntimeError) as error:
            reason = str(error).strip().partition("\n")[0][:300]
            raise UserError(f"cannot save to {self.folder}, older checkpoints are whole: {reason}") from error


def signature_of(state: State) -> str:
    """Says what the arrays of a state are: equal for states that can be restored into each other."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    text = json.dumps([[jax.tree_util.keystr(path), list(x.shape), str(x.dtype)] for path, x in leaves])
    return hashlib.sha256(text.encode()).hexdigest()
