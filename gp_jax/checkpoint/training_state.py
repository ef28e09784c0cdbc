"""The training state on disk: saved beside the training, found again after whatever happened.

    W/state/1200/state/      the arrays of state.py, by Orbax, from any number of processes
    W/state/1200/meta        JSON: what the networks are built from, where data stood, what the arrays are
    W/state/1200/checksums.json   of all these files (checksums.py)

    with Checkpoints(W, keep=2) as checkpoints:
        found = checkpoints.restore(abstract, signature)
        checkpoints.save(step, state, meta)            copies the arrays, writes them while training goes on

A directory gets its name when all of it is written, so that a process that dies while saving leaves the ones before.
What a disk has changed since then is noticed before it is read; states of earlier versions have no checksums, and of
those Orbax alone says whether they are whole.
Arrays are restored onto the mesh of the state that is asked for, be it that of the run that saved them or not.
"""

import contextlib
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from gp_jax.checkpoint.checksums import FILE as CHECKSUMS
from gp_jax.checkpoint.checksums import difference, write_checksums
from gp_jax.checkpoint.reading_state import quiet
from gp_jax.errors import UserError
from gp_jax.parallel.processes import on_first

FOLDER = "state"

State = dict[str, Any]  # a tree of arrays


class _Damaged(Exception):
    """What of a state is not as it was saved."""


def _telling(failures: list[BaseException]) -> ocp.StandardCheckpointHandler:
    """Writes arrays, and says at once where that fails.

    Orbax says it too, but only when all processes have met once more, for which those that wrote their part well wait
    minutes in another place.
    """
    handler = ocp.StandardCheckpointHandler()
    write = handler.async_save

    async def async_save(*args: Any, **kwargs: Any) -> list[Any]:
        return [_Told(future, failures) for future in await write(*args, **kwargs) or ()]

    handler.async_save = async_save  # a class of our own would have to be made known to Orbax' registries
    return handler


class _Told:
    """A future that leaves its error in a list as well."""

    def __init__(self, future: Any, failures: list[BaseException]):
        self._future, self._failures = future, failures

    def result(self, timeout: int | None = None) -> Any:
        try:
            return self._future.result(timeout=timeout)
        except BaseException as error:
            self._failures.append(error)
            raise


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
        self._saving = 0
        self._failures: list[BaseException] = []
        asynchronous = ocp.AsyncOptions(post_finalization_callback=self._add_checksums)
        self._options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=False, async_options=asynchronous)
        self._manager = self._open()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        if kind is None:
            self._guarded(self._manager.close)
        elif jax.process_count() == 1:  # of several, some may have left already
            with contextlib.suppress(Exception):  # what went wrong first is what matters
                self._manager.close()

    def save(self, step: int, state: State, meta: Mapping[str, Any]) -> None:
        """Begins to save; raises UserError where the save before it failed, as on a full disk."""
        items = {"state": ocp.args.StandardSave(state), "meta": ocp.args.JsonSave({**meta, "checksums": True})}
        self.wait()  # for the one before
        self._saving = step
        self._guarded(lambda: self._manager.save(step, args=ocp.args.Composite(**items), force=True))

    def check(self) -> None:
        """Raises UserError where what is being saved has failed already; waits for nothing."""
        if self._failures:
            raise self._cannot_save(self._failures[0])
        self._guarded(self._manager.check_for_errors)

    def wait(self) -> None:
        """Until what was begun is on disk; raises UserError where that failed."""
        while jax.process_count() > 1 and self._manager.is_saving_in_progress():
            self.check()
            time.sleep(0.02)
        self._guarded(self._manager.wait_until_finished)

    def restore(self, state: State, signature: str) -> tuple[State, dict[str, Any]] | None:
        """The newest state that is as it was saved, and its `meta`; None where there is none at all.

        Damaged ones are named, and put aside so that their step can be saved again. All processes take the same.

        Args:
          state: `abstract_state`, the shapes and places wanted.
          signature: of `signature_of`; that of the checkpoint must be equal.

        Raises:
          UserError: the checkpoint is of another configuration, or all of them are damaged.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                found = self._read(step, state, signature)
            except _Damaged as damage:
                print(f"gp-jax: checkpoint {step} is damaged and passed over ({damage})", file=sys.stderr)
                continue
            self._put_aside([damaged for damaged in steps if damaged > step])
            return found
        if steps:
            raise UserError(f"all checkpoints in {self.folder} are damaged: move them away to start again")
        return None

    def _read(self, step: int, state: State, signature: str) -> tuple[State, dict[str, Any]]:
        folder = self.folder / str(step)
        if damage := on_first(lambda: difference(folder)):
            raise _Damaged(damage)
        meta = self._restored(step, meta=ocp.args.JsonRestore()).meta
        if not isinstance(meta, dict) or not {"signature", "data"} <= meta.keys():
            raise _Damaged("meta is none of a training state")
        if meta["signature"] != signature:
            raise UserError(
                f"{folder} was saved by another configuration, whose networks or trained parameters differ: use that "
                "one, or another --workdir"
            )
        if meta.get("checksums") and not (folder / CHECKSUMS).is_file():
            raise _Damaged(f"{CHECKSUMS} is missing")
        return self._restored(step, state=ocp.args.StandardRestore(state)).state, meta

    def _restored(self, step: int, **items: Any) -> Any:
        try:
            with quiet():
                return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:  # whatever a broken file makes a reader raise
            reason = str(error).strip().partition("\n")[0][:200]
            if jax.process_count() > 1:  # the others may have read their part, and cannot take another state
                raise UserError(f"{self.folder / str(step)} is damaged, move it away ({reason})") from error
            raise _Damaged(reason) from error

    def _put_aside(self, steps: list[int]) -> None:
        if not steps:
            return

        def rename() -> None:
            for step in steps:
                aside = self.folder.with_name(f"damaged-{step}")
                shutil.rmtree(aside, ignore_errors=True)
                (self.folder / str(step)).rename(aside)

        on_first(lambda: self._guarded(rename))
        self._manager.close()
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        with quiet():
            handlers = {"state": _telling(self._failures), "meta": ocp.JsonCheckpointHandler()}
            return ocp.CheckpointManager(self.folder, options=self._options, item_handlers=handlers)

    def _add_checksums(self) -> None:
        """Called on the first process when all files of a state are there, and before it gets its name."""
        for folder in self.folder.glob(f"{self._saving}.*tmp*"):
            write_checksums(folder)

    def _guarded(self, work: Any) -> None:
        try:
            work()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._cannot_save(error) from error

    def _cannot_save(self, error: BaseException) -> UserError:
        reason = str(error).strip().partition("\n")[0][:300]
        return UserError(f"cannot save to {self.folder}, older checkpoints are whole: {reason}")


def signature_of(state: State) -> str:
    """Says what the arrays of a state are: equal for states that can be restored into each other."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    text = json.dumps([[jax.tree_util.keystr(path), list(x.shape), str(x.dtype)] for path, x in leaves])
    return hashlib.sha256(text.encode()).hexdigest()
