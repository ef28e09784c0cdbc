"""What is told before and during a job is told in words that add up."""

import pytest

from gp_jax.cli import progress
from gp_jax.cli.progress import Pace
from gp_jax.jobs.rates import duration
from gp_jax.methods.method import Estimate


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (40.4, "40 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_an_estimate_tells_what_is_known():
    assert Estimate().told(3, 0) == ""
    assert Estimate(1).told(3, 0) == "1 network evaluation"
    known = Estimate(123, 38.0, int(1.5e9))
    assert known.told(2, int(4e8)) == "about 40 s, 123 network evaluations, 1.9 GB"
    assert Estimate(12, idle=20).told() == "12 network evaluations (and 20 idle ones, which fill the mesh)"


def test_the_pace_is_that_of_late(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = Pace(200)

    def at(seconds, done):
        now[0] = seconds
        return pace.after(done, 100)

    assert at(0, 0) == at(50, 0) == at(50.1, 10) == ""  # reading, then what an earlier run has made
    assert at(52, 11) == "11 frames/s, 16 s left"
    for second in range(60, 101, 2):
        told = at(second, second // 2)
    assert told == "1 frames/s, 1 min 40 s left"
    assert at(102, 100).endswith("frames/s")


def test_without_frames_only_the_time_is_told(monkeypatch):
    now = iter([0.0, 0.0, 2.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    pace = Pace(None)
    assert [pace.after(done, 10) for done in (0, 0, 5)] == ["", "", "2 s left"]
