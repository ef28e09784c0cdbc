"""Work done at once comes back in order; the first error ends it."""

import threading

import jax
import pytest

from gp_jax.jobs.side_by_side import at_once, side_by_side


def test_results_come_in_the_order_of_the_works_whichever_ends_first():
    second = threading.Event()
    counts = []
    works = [lambda: second.wait(10) and "a", lambda: second.set() or "b", lambda: "c"]
    assert side_by_side(works, 2, counts.append) == ["a", "b", "c"] and counts == [1, 2, 3]
    assert side_by_side([], 2) == []


def test_one_thread_does_one_work_after_the_other():
    order = []
    side_by_side([lambda i=i: order.append(i) for i in range(5)], 1)
    assert order == [0, 1, 2, 3, 4]


def test_the_first_error_is_raised_at_once_and_nothing_else_begins():
    stuck, begun = threading.Event(), []

    def fail():
        raise ValueError("it")

    with pytest.raises(ValueError, match="it"):
        side_by_side([lambda: stuck.wait(60), fail, lambda: begun.append(1)], 2)
    stuck.set()
    assert not begun


def test_as_many_as_there_are_programs_or_cores():
    device = jax.devices()[0]
    assert at_once(device, 1) == 1 and 1 <= at_once(device, 1000) < 1000
