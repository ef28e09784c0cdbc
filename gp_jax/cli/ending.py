"""How a command ends that a signal asks to: as Ctrl-C does, and also where Python cannot hear.

Python runs its handlers in the main thread and between two of its own instructions, and compiling a program is one that
takes minutes. So a handler unwinds the command, and leaves nothing half-written; and a thread, which C tells of signals
at once, ends the process, just as clean, where the handler has not run within `PATIENCE`:

    unwind_at_signals()
    program.compile()           SIGTERM: 143 after PATIENCE, what was half-written is removed
    time.sleep(60)              SIGTERM: SystemExit(143) here and now

Who has handlers of his own, as training has, is left alone.
"""

import multiprocessing
import os
import signal
import sys
import threading
from types import FrameType
from typing import NoReturn

from gp_jax.files import abandon

PATIENCE = 5.0  # seconds; whoever ends a process kills it after 10 or more
_ASKING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_unwinds = threading.Event()
_watched: list[int] = []  # the pipe that C tells of signals, both ends


def unwind_at_signals() -> None:
    """Makes the end of the process, with its usual code, an exception: SIGTERM, Ctrl-C, and SIGHUP unless ignored."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in _ASKING:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _leave)
    if not _watched:
        _watched.extend(os.pipe())
        os.set_blocking(_watched[1], False)
        signal.set_wakeup_fd(_watched[1], warn_on_full_buffer=False)
        threading.Thread(target=_watch, name="signals", daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    _unwinds.set()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    for other in (signal.SIGTERM, signal.SIGHUP):  # the unwinding is not to be interrupted in its turn
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def _watch() -> None:
    while told := os.read(_watched[0], 1):
        number = told[0]
        if number not in _ASKING or signal.getsignal(number) is not _leave or _unwinds.wait(PATIENCE):
            _unwinds.clear()
            continue
        end_at_once(128 + number)


def end_at_once(code: int) -> NoReturn:
    """Ends the process, and its workers, where something cannot unwind; what is half-written is removed."""
    abandon()
    for worker in multiprocessing.active_children():
        worker.kill()
    os._exit(code)
