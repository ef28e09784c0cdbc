"""What a fuzzed case may ask for: so much more memory, whether it is touched or not, and so much time."""

import contextlib
import resource
import signal
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def bounded(memory: float = 4e9, seconds: int = 60) -> Iterator[None]:
    """Beyond that the case sees a MemoryError or a TimeoutError, which are no refusals."""

    def late(*_):
        raise TimeoutError(f"not done after {seconds} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(memory), before[1]))
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)
