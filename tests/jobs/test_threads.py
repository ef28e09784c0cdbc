"""Threads carry everything, in order, tell what went wrong, and are gone when the work is."""

import itertools
import threading
import time

import pytest

from gp_jax.jobs.threads import ahead, behind


@pytest.fixture(autouse=True)
def no_thread_stays():
    yield
    assert not {"ahead", "behind"} & {thread.name for thread in threading.enumerate()}


def test_things_are_read_in_order_and_not_too_far_ahead():
    made = []
    with ahead((made.append(i) or i for i in range(100)), 3) as items:
        for number, item in enumerate(items):
            assert number == item and len(made) <= number + 5  # one is here, one in the hand of the thread
            time.sleep(0.0005)
    assert len(made) == 100


def test_an_error_comes_after_what_was_read_before_it():
    def broken():
        yield 1
        raise RuntimeError("disk")

    taken = []
    with pytest.raises(RuntimeError, match="disk"), ahead(broken(), 5) as items:
        taken.extend([next(items)])
        next(items)
    assert taken == [1]


@pytest.mark.parametrize("size", [1, 50])
def test_who_stops_early_stops_the_reader(size):
    with pytest.raises(KeyboardInterrupt), ahead(itertools.count(), size) as items:
        next(items)
        raise KeyboardInterrupt


def test_all_is_written_in_order():
    written = []
    with behind(lambda item: time.sleep(0.0005) or written.append(item), 3) as write:
        for number in range(100):
            write(number)
            assert number - len(written) <= 5
    assert written == list(range(100))


@pytest.mark.parametrize("count", [1, 100])
def test_an_error_of_writing_is_told_at_the_latest_in_the_end(count):
    def full(item):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), behind(full, 2) as write:
        for number in range(count):
            write(number)


def test_after_an_error_of_the_work_nothing_more_is_written():
    written = []

    def slow(item):
        time.sleep(0.02)
        written.append(item)

    with pytest.raises(KeyboardInterrupt), behind(slow, 50) as write:
        for number in range(50):
            write(number)
        raise KeyboardInterrupt
    assert len(written) < 10
