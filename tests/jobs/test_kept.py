"""What was traced once is not traced again, and only what is the same is found."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import ShapeDtypeStruct as Shape

from gp_jax.jobs import kept
from gp_jax.jobs.kept import Program
from gp_jax.jobs.programs import flops_of
from gp_jax.parallel import make_mesh, use_mesh

SHAPES = (Shape((3, 4), np.float32), Shape((4, 5), np.float32))
GIVEN = [np.arange(x.size, dtype=x.dtype).reshape(x.shape) for x in SHAPES]


@pytest.fixture
def traced(tmp_path):
    """traced(arguments, static) -> a program made ready as a new process does it, and how often it was traced."""

    def start(arguments=SHAPES, static=None, name="scaled", module="gp_jax.somewhere"):
        turns = []

        def function(x, y, *, by=1.0, half=False):
            turns.append(0)
            return by * (x @ y), (x * 0.5 if half else x)

        function.__name__ = function.__qualname__ = name
        function.__module__ = module
        program = Program(function, ("by", "half"))
        loaded = program.load(arguments, static or {"by": 2.0}, tmp_path, flops_of)
        return program, loaded, len(turns)

    return start


def test_a_second_process_traces_nothing_and_gets_the_same(traced):
    program, loaded, turns = traced()
    assert turns > 0 and loaded.flops == 2 * 3 * 4 * 5
    again, found, none = traced()
    assert none == 0 and found.flops == loaded.flops
    for one, other in zip(program(*GIVEN, by=2.0), again(*GIVEN, by=2.0), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(again(*GIVEN, by=2.0)[0], 2 * GIVEN[0] @ GIVEN[1])
    np.testing.assert_array_equal(again(*GIVEN, by=3.0)[0], 3 * GIVEN[0] @ GIVEN[1])  # traced: none of those was loaded
    np.testing.assert_array_equal(again(*(x[:, :4] for x in GIVEN), by=2.0)[0], 2 * GIVEN[0] @ GIVEN[1][:, :4])


@dataclasses.dataclass(frozen=True)
class Foreign:
    by: float


OTHERS = {
    "shape": {"arguments": (SHAPES[0], Shape((4, 6), np.float32))},
    "type": {"arguments": (SHAPES[0], Shape((4, 5), jnp.bfloat16))},
    "value": {"static": {"by": 3.0}},
    "argument": {"static": {"by": 2.0, "half": True}},
    "function": {"name": "other"},
    "module": {"module": "gp_jax.elsewhere"},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_what_differs_is_another_program(traced, change):
    traced()
    assert traced(**change)[2] > 0


def test_other_sources_versions_and_settings_are_other_programs(traced, monkeypatch):
    traced()
    with jax.default_matmul_precision("highest"):
        assert traced()[2] > 0
    monkeypatch.setattr(kept, "_surroundings", lambda: ("another version",))
    assert traced()[2] > 0


@pytest.mark.parametrize("loads", [False, True])
def test_the_memory_of_what_is_donated_becomes_the_result(loads, tmp_path):
    def moved(state, x):
        return {"a": state["a"] + x, "n": state["n"] + 1}

    moved.__module__, moved.__qualname__ = "gp_jax.somewhere", "moved"
    program = Program(moved, donates=True)
    if loads:
        assert program.load(({"a": SHAPES[0], "n": Shape((), np.int32)}, SHAPES[0]), {}, tmp_path, flops_of)
    state = {"a": jnp.ones((3, 4)), "n": jnp.int32(0)}
    places = {name: x.unsafe_buffer_pointer() for name, x in state.items()}
    made = program(state, GIVEN[0])
    np.testing.assert_array_equal(made["a"], GIVEN[0] + 1)
    assert all(x.is_deleted() for x in state.values())
    assert {name: x.unsafe_buffer_pointer() for name, x in made.items()} == places


def test_what_cannot_be_named_is_not_kept(traced, tmp_path):
    assert traced(module="another_package")[1] is None
    assert traced(static={"by": Foreign(2.0)})[1] is None
    with use_mesh(make_mesh("data=2", jax.devices()[:2])):
        assert traced()[1] is None
    spread = jax.device_put(GIVEN[0], jax.NamedSharding(make_mesh("data=8"), jax.P()))
    assert traced((spread, SHAPES[1]))[1] is None
    assert not any(tmp_path.iterdir())


def test_what_was_loaded_is_not_run_for_other_devices_or_settings(traced):
    program, *_ = traced()
    expected, places = 2 * GIVEN[0] @ GIVEN[1], make_mesh("data=4", jax.devices()[:4])
    with use_mesh(places):
        spread = jax.device_put(GIVEN[1], jax.NamedSharding(places, jax.P("data")))
        np.testing.assert_array_equal(program(GIVEN[0], spread, by=2.0)[0], expected)
    elsewhere = [jax.device_put(x, jax.devices()[3]) for x in GIVEN]
    found = program(*elsewhere, by=2.0)[0]
    np.testing.assert_array_equal(found, expected)
    assert found.devices() == {jax.devices()[3]}
    with jax.enable_x64(True):
        assert program(*(x.astype(np.float64) for x in GIVEN), by=2.0)[0].dtype == np.float64


class Layer(nnx.Module):
    def __init__(self, act, rngs):
        self.linear, self.act = nnx.Linear(4, 4, rngs=rngs), act


@pytest.mark.parametrize("act", [jax.nn.relu, lambda x: x], ids=["named", "lambda"])
def test_networks_of_other_packages_are_not_kept(act, tmp_path):
    def apply(layer, x):
        return layer.act(layer.linear(x))

    apply.__module__ = "gp_jax.somewhere"
    assert Program(apply).load((Layer(act, nnx.Rngs(0)), SHAPES[0]), {}, tmp_path, flops_of) is None


@pytest.mark.parametrize("change", [lambda data: data[:-50], lambda data: b"{}\n", lambda data: b"", bytes.upper])
def test_a_damaged_file_is_made_anew(traced, tmp_path, change):
    traced()
    (file,) = tmp_path.iterdir()
    file.write_bytes(change(file.read_bytes()))
    program, _, turns = traced()
    assert turns > 0 and traced()[2] == 0
    np.testing.assert_array_equal(program(*GIVEN, by=2.0)[0], 2 * GIVEN[0] @ GIVEN[1])


def test_a_folder_that_cannot_be_written_costs_only_time(traced, tmp_path):
    tmp_path.rmdir()
    tmp_path.touch()
    assert traced()[1] is None
    tmp_path.unlink()
    tmp_path.mkdir()
