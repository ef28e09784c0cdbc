"""Several processes, one program: how they find each other, what they share, and how they end together.

with joined("10.0.0.1:1234", num_processes=4, process_id=0):     every process says the same, but for its number
with joined("auto"):                                             on a TPU pod or under SLURM, which know it themselves

A program on several devices stands still as soon as one process is missing. So whoever leaves the block by an exception
says why, and the others, whatever they are waiting for, end with that sentence and a code that is not 0; one that is
killed or cannot be reached is missed after `PATIENCE` seconds. All of it goes through JAX's coordination service, which
lives in process 0: it needs no device, and is there while the devices wait.
"""

import contextlib
import ctypes
import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax._src import distributed  # the service's client, which JAX has no public name for; Orbax takes it from here too
from jax.sharding import NamedSharding

from gp_jax.errors import Stopped, UserError
from gp_jax.files import abandon

PATIENCE = 30.0  # seconds without a sign of life until a process counts as dead
_BEAT = 1.0  # seconds between two signs of life
_GOODBYE = 5.0  # seconds that process 0, and with it the service, outlives the end of the others
_ENDED, _DONE, _ALIVE, _LEFT, _TURN = (f"gp_jax/{name}" for name in ("ended", "done", "alive/", "left/", "turn/"))
_LOST = "has died or cannot be reached: start all processes again, and they go on from what was saved last"
_CONNECTION = ("Gloo", "NCCL", "UNAVAILABLE", "Connection closed", "Connection reset", "Socket closed")

_turns = itertools.count()
_leaving = threading.Lock()


@contextlib.contextmanager
def joined(coordinator: str | None, num_processes: int | None = None, process_id: int | None = None) -> Iterator[None]:
    """Joins the other processes, before anything asks for devices; within it all live or end together.

    Where there are others, an exception does not come out of the block: it is told, and the process ends. So it is with
    `Stopped` in a process on its own, since a thread of the block may still be at work.

    Args:
      coordinator: address and port of process 0, "auto" where the cluster tells, None for a process on its own.
      num_processes, process_id: how many there are, and which one this is; not with "auto".

    Raises:
      UserError: the arguments contradict each other, or the others cannot be found.
    """
    _start(coordinator, num_processes, process_id)
    try:
        if _alone():
            yield
            return
        done = threading.Event()
        ctypes.CDLL(None).signal(signal.SIGABRT, _abort)
        watch = threading.Thread(target=_watch, args=(done,), daemon=True)
        watch.start()
        yield
        _client().wait_at_barrier(_DONE, 1000 * 3600)
        done.set()
        watch.join()
    except BaseException as error:
        if isinstance(error, Stopped) or not _alone():
            _end(error)
        raise


def on_first(work: Callable[[], Any], meanwhile: Callable[[], Any] = lambda: None) -> Any:
    """Does `work` on process 0 and `meanwhile` on the others, which then wait as long as it takes.

    Returns:
      What `work` returned, on all processes; of what JSON can hold.

    Raises:
      UserError: that of `work`, on all processes.
    """
    if _alone():
        return work()
    key, told = f"{_TURN}{next(_turns)}", None
    if jax.process_index() == 0:
        try:
            told = json.dumps([work(), None])
        except UserError as error:
            told = json.dumps([None, str(error)])
        _client().key_value_set(key, told)
    else:
        meanwhile()
        while told is None:
            told = _wait_for(key)
    value, problem = json.loads(told)
    if problem is not None:
        raise UserError(problem)
    return value


def is_first() -> bool:
    """Whether this is process 0, which alone writes and prints; a process on its own is that too."""
    return jax.process_index() == 0


def process_rows(sharding: NamedSharding, rows: int) -> np.ndarray:
    """The rows, of `rows`, that lie on this process's devices: their numbers in rising order, not always neighbours.

    Processes that hold the same rows get the same answer: they all bring them.

    Args:
      sharding: of an array whose first axis are the rows.
      rows: of the global batch.
    """
    held = sharding.addressable_devices_indices_map((rows,)).values()
    return np.unique(np.concatenate([np.arange(rows)[index] for index in held]))


def _start(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator is None:
        if num_processes is not None or process_id is not None:
            raise UserError("several processes need the address of the first: give --coordinator HOST:PORT")
        return
    named = num_processes is not None and process_id is not None
    if named == (coordinator == "auto"):
        raise UserError("--coordinator HOST:PORT goes with --num-processes and --process-id, and auto without them")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM and hear it between steps only
    try:
        if named:
            jax.distributed.initialize(coordinator, num_processes, process_id)
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"the processes do not find each other at {coordinator}: {reason}") from error


def _alone() -> bool:
    return not jax.distributed.is_initialized() or jax.process_count() == 1


def _client() -> Any:
    return distributed.global_state.client


def _wait_for(key: str) -> str | None:
    """The value of a key, None where there is none for a second; raises JaxRuntimeError where process 0 is gone."""
    try:
        return _client().blocking_key_value_get(key, int(1000 * _BEAT))
    except jax.errors.JaxRuntimeError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return None


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _abort(_: int) -> None:
    """JAX's own watch aborts the process at the moment when process 0 is gone; this is the C handler of that signal."""
    if not _leaving.locked():
        os.write(2, f"gp-jax: process 0 {_LOST}; or a library gave up, for what stands above\n".encode())
    os._exit(2)


def _watch(done: threading.Event) -> None:
    """Gives signs of life until all is done, and ends this process with the others."""
    me, others = jax.process_index(), range(1, jax.process_count())
    seen = {number: ("", time.monotonic()) for number in others}
    while not done.is_set():
        try:
            _client().key_value_set(f"{_ALIVE}{me}", str(time.monotonic()), allow_overwrite=True)
            _follow(_wait_for(_ENDED))
            beats = dict(_client().key_value_dir_get(_ALIVE)) if me == 0 else {}
        except jax.errors.JaxRuntimeError:
            _leave(f"process 0 {_LOST}", 2)
        now = time.monotonic()
        for number in others if me == 0 else ():
            beat = beats.get(f"{_ALIVE}{number}", "")
            if beat != seen[number][0]:
                seen[number] = beat, now
            elif now - seen[number][1] > PATIENCE:
                _end(UserError(f"process {number} {_LOST}"))


def _end(error: BaseException) -> NoReturn:
    """Tells the others why this process ends, and ends it; where they are the cause, it ends for their reason."""
    text = str(error).strip().partition("\n")[0]
    reason, code = {
        Stopped: (text, getattr(error, "code", 0)),
        UserError: (text, 2),
        KeyboardInterrupt: ("it was interrupted", 130),
        SystemExit: ("it was told to leave", getattr(error, "code", 0)),
    }.get(type(error), (f"{type(error).__name__}: {text}", 1))
    if not _alone():
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # somebody was faster, or process 0 is gone
            if code == 1:
                _follow(_wait_for(_ENDED))
            lost = code == 1 and any(word in str(error) for word in _CONNECTION)
            if lost:
                reason, code = f"another process {_LOST}", 2
            ended = {"process": jax.process_index(), "reason": reason, "code": code}
            _client().key_value_set(_ENDED, json.dumps(ended))
    if code == 1:
        traceback.print_exception(error)
    _leave(reason if code != 1 else "", code)


def _follow(told: str | None) -> None:
    """Ends with the process that has told why it ends, unless it is this one."""
    ended = json.loads(told) if told else {"process": jax.process_index()}
    if ended["process"] != jax.process_index():
        _leave(f"process {ended['process']}: {ended['reason']}", ended["code"])


def _leave(sentence: str, code: int) -> NoReturn:
    """Ends this process at once: threads and exit handlers could wait for the others, who are gone.

    What it has written half is removed here, since nothing unwinds.
    """
    _leaving.acquire()  # never released: of several threads one is enough
    if sentence:
        os.write(2, f"gp-jax: {sentence}\n".encode())
    abandon()
    for worker in multiprocessing.active_children():
        worker.kill()
    with contextlib.suppress(jax.errors.JaxRuntimeError):
        if not _alone() and jax.process_index() > 0:
            _client().key_value_set(f"{_LEFT}{jax.process_index()}", "")
        elif not _alone():
            late = time.monotonic() + _GOODBYE
            while len(_client().key_value_dir_get(_LEFT)) < jax.process_count() - 1 and time.monotonic() < late:
                time.sleep(0.05)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
