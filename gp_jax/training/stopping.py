"""How a run hears that it has to stop: SIGTERM, and Ctrl-C, at any moment.

Python runs its signal handlers in the main thread and between two of its own instructions, and compiling a program is
one that takes minutes. So long work is done in another thread, while the main thread listens.
"""

import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gp_jax.errors import Stopped

T = TypeVar("T")
_LISTEN = 0.1  # seconds
_LATER = 2  # steps; as many wait in the devices' queue


class Stop:
    """Listens for SIGTERM from `with Stop() as stop:` on; to be entered in the main thread.

    Attributes:
      came: whether there was one.
    """

    def __init__(self) -> None:
        self.came = False
        self._answers: deque[jax.Array] = deque()

    def __enter__(self) -> "Stop":
        self._before = signal.signal(signal.SIGTERM, self._hear)
        return self

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def during(self, work: Callable[[], T], stands: str) -> T:
        """What `work` returns or raises, unless a signal comes meanwhile.

        Args:
          work: done in a thread of its own, which nothing but the end of the process can stop.
          stands: ends the sentence "stopped by SIGTERM ...": when, and what was saved.

        Raises:
          Stopped: a signal came; the process should end soon.
        """
        outcome: dict[str, Any] = {}

        def run() -> None:
            try:
                outcome["value"] = work()
            except BaseException as error:
                outcome["error"] = error

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                if self.came:
                    raise Stopped(f"stopped by SIGTERM {stands}", 0)
                thread.join(_LISTEN)
        except KeyboardInterrupt:
            raise Stopped(f"stopped by Ctrl-C {stands}", 130) from None
        except SystemExit as error:  # what main.py makes of SIGHUP
            assert isinstance(error.code, int)
            raise Stopped(f"stopped by a signal {stands}", error.code) from None
        if "error" in outcome:
            raise outcome["error"]
        return outcome["value"]

    def agreed(self, mesh: Mesh) -> bool:
        """Whether to stop, asked after each step: a process on its own stops at once.

        Several of them hear of each other's signals on the devices, behind the step, so that all get the same answer
        and nobody waits for it: that of `_LATER` steps before.
        """
        if jax.process_count() == 1:
            return self.came
        place, here = NamedSharding(mesh, PartitionSpec(mesh.axis_names)), np.array([self.came])
        self._answers.append(_any(jax.make_array_from_callback((mesh.size,), place, lambda _: here)))
        return len(self._answers) > _LATER and bool(self._answers.popleft())

    def _hear(self, *_: Any) -> None:
        self.came = True


@jax.jit
def _any(flags: jax.Array) -> jax.Array:
    return flags.any()
