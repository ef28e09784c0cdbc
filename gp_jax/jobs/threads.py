"""Reading and writing beside the work, by one thread each.

    with ahead(reader, 8) as frames:          read up to 8 frames before they are asked for
        for frame in frames: ...
    with behind(writer.write, 8) as write:    written while the next ones are made
        write(frame)

Both hold a bounded number of things. What goes wrong in the thread is raised where the work is; when the work ends, by
an error or a signal too, the thread has ended before the `with` block has.
"""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class _Failed(NamedTuple):
    error: BaseException


_END = object()


@contextmanager
def ahead(items: Iterable[T], size: int) -> Iterator[Iterator[T]]:
    """The items in their order, up to `size` of them made before they are asked for."""
    made: queue.Queue[Any] = queue.Queue(size)
    is_over = threading.Event()

    def work() -> None:
        try:
            for item in items:
                made.put(item)
                if is_over.is_set():
                    return
            made.put(_END)
        except BaseException as error:
            made.put(_Failed(error))

    def taken() -> Iterator[T]:
        while (item := made.get()) is not _END:
            if isinstance(item, _Failed):
                raise item.error
            yield item

    thread = threading.Thread(target=work, name="ahead", daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        is_over.set()
        _drain(made, thread)


@contextmanager
def behind(write: Callable[[T], Any], size: int) -> Iterator[Callable[[T], None]]:
    """A function that has its argument written later, in order, and waits where `size` are waiting.

    All are written when the block ends well; when it fails, those that wait are dropped.
    """
    waiting: queue.Queue[Any] = queue.Queue(size)
    failed: list[BaseException] = []
    is_over = threading.Event()

    def work() -> None:
        while (item := waiting.get()) is not _END:
            if failed or is_over.is_set():
                continue
            try:
                write(item)
            except BaseException as error:
                failed.append(error)

    def put(item: T) -> None:
        if failed:
            raise failed[0]
        waiting.put(item)

    thread = threading.Thread(target=work, name="behind", daemon=True)
    thread.start()
    try:
        yield put
        waiting.put(_END)
        thread.join()
    except BaseException:
        is_over.set()
        while thread.is_alive():  # it takes whatever comes
            try:
                waiting.put(_END, timeout=0.1)
                thread.join(0.1)
            except queue.Full:
                continue
        raise
    if failed:
        raise failed[0]


def _drain(made: queue.Queue, thread: threading.Thread) -> None:
    """Ends a thread that may wait for room in its queue."""
    while thread.is_alive():
        try:
            made.get(timeout=0.02)
        except queue.Empty:
            continue
