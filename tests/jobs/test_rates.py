"""What was measured is known to the next process, in proportion to the work; a broken file is no obstacle."""

import json

import pytest

from gp_jax.jobs.rates import KEPT, Clock, Rates


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "rates.json"


def learn(*measured, device="cpu"):
    clock = Clock()
    for stage, work, seconds, calls in measured:
        clock.add(stage, work, seconds, calls)
    Rates(device).learn(clock)


def test_what_was_measured_is_known():
    assert Rates("cpu").seconds("denoise", 100) is None
    learn(("denoise", 100, 6.0, 3), ("denoise", 1000, 8.0, 1))
    rates = Rates("cpu")
    assert rates.seconds("denoise", 100) == 2.0
    assert rates.seconds("denoise", 50) == 1.0
    assert rates.seconds("denoise", 2000) == 16.0
    assert rates.seconds("finish", 100) is None and Rates("gpu").seconds("denoise", 100) is None


def test_the_newest_weighs_most_and_devices_stand_side_by_side():
    learn(("denoise", 100, 2.0, 1))
    learn(("denoise", 100, 7.0, 1), device="gpu")
    for _ in range(9):
        learn(("denoise", 100, 4.0, 1))
    assert 3.9 < Rates("cpu").seconds("denoise", 100) < 4.0 and Rates("gpu").seconds("denoise", 100) == 7.0


def test_no_more_than_a_few_amounts_are_kept(cache):
    for work in range(1, 3 * KEPT):
        learn(("denoise", work, 1.0, 1))
    known = next(iter(json.loads(cache.read_text()).values()))["denoise"]
    assert list(known) == [str(work) for work in range(2 * KEPT, 3 * KEPT)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '{"%s": 3}', '{"%s": {"denoise": 3}}', '{"%s": {"denoise": {"x": "y"}}}']
)
def test_a_broken_file_is_no_obstacle(cache, text):
    cache.parent.mkdir()
    cache.write_text(text.replace("%s", Rates("cpu").device))
    assert Rates("cpu").seconds("denoise", 1) is None
    learn(("denoise", 1, 1.0, 1))
    assert Rates("cpu").seconds("denoise", 1) == 1.0


def test_a_folder_that_cannot_be_written_is_no_obstacle(monkeypatch):
    monkeypatch.setenv("GP_JAX_CACHE", "/proc/nowhere")
    learn(("denoise", 1, 1.0, 1))
    assert Rates("cpu").seconds("denoise", 1) is None


def test_a_clock_counts_calls_that_went_well():
    clock = Clock()
    for _ in range(2):
        with clock("a", 5):
            pass
    with pytest.raises(RuntimeError), clock("a", 5):
        raise RuntimeError
    clock.add("a", 5, 1.0, calls=0)
    seconds, calls = clock.spent["a", 5]
    assert 1 <= seconds < 2 and calls == 2
