"""A fit of a few numbers to a clip of a few numbers: what it is, and that it goes on to the same bits."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import ShapeDtypeStruct as Shape

from gp_jax.errors import UserError
from gp_jax.jobs.journal import Journal
from gp_jax.jobs.programs import prepare
from gp_jax.methods import adaptation
from gp_jax.methods.adaptation import Adaptation, update
from gp_jax.models.low_rank import DOWN, UP, fresh
from gp_jax.parallel import make_mesh
from tests.parallel import together

RNG = np.random.default_rng(0)
KERNEL, WANTED = RNG.normal(size=(2, 6, 5)).astype(np.float32)
SHAPES = {"x": Shape((64, 6), np.float32)}


@dataclasses.dataclass(frozen=True)
class Loss:
    """How far a layer with its update is from another one, on inputs that are partly random."""

    def __call__(self, updates, frozen, batch, key):
        x = batch["x"] + 0.1 * jax.random.normal(key, batch["x"].shape)
        error = x @ (frozen["kernel"] + updates[f"layer.{DOWN}"] @ updates[f"layer.{UP}"] - WANTED)
        return (error**2).mean() + jnp.where(batch["x"][0, 0] < frozen["poison"], jnp.nan, 0.0)


def batches(step):
    return {"x": np.random.default_rng(step).normal(size=(64, 6)).astype(np.float32)}


def make(kernel=KERNEL, poison=-9.0, **changes):
    updates, frozen = fresh({"layer": KERNEL.shape}, 3, seed=0), {"kernel": kernel, "poison": np.float32(poison)}
    settings = {"steps": 30, "rate": 0.1, "seed": 5} | changes
    return Adaptation("adapt-layer", Loss(), updates, frozen, SHAPES, **settings)


@pytest.fixture(scope="module")
def whole():
    return make().run(batches)


def equal(one, other):
    np.testing.assert_array_equal(one.losses, other.losses)
    for name in one.updates:
        np.testing.assert_array_equal(one.updates[name], other.updates[name])


def test_it_learns(whole):
    assert whole.losses.shape == (30,) and whole.losses[-5:].mean() < 0.6 * whole.losses[:5].mean()
    assert whole.updates.keys() == make().updates.keys() and np.abs(whole.updates[f"layer.{UP}"]).max() > 0.1


def test_it_is_of_its_seed_alone(whole):
    equal(make().run(batches), whole)
    other = make(seed=2**40 + 5).run(batches)
    assert (other.losses != whole.losses).all()


class Killed(BaseException):
    """What nothing in between catches."""


@pytest.mark.parametrize("moments", [(1,), (12, 13, 29)])
def test_killed_and_begun_again_it_ends_with_the_same_bits(whole, moments, tmp_path, monkeypatch):
    monkeypatch.setattr(adaptation, "SECONDS", -1.0)
    seen = []

    def progress(done, total, name):
        assert (total, name) == (30, "adapt-layer")
        seen.append(done)
        if done in left:
            left.remove(done)
            raise Killed

    left = list(moments)
    for _ in moments:
        with pytest.raises(Killed), Journal(tmp_path, {}) as journal:
            make().run(batches, journal, progress)
        with Journal(tmp_path, {}) as journal:  # the state of the step that was killed in is not kept yet
            assert make().call(journal).times == 30 - seen[-1] + 1
    with Journal(tmp_path, {}) as journal:
        equal(make().run(batches, journal, progress), whole)
        assert len(seen) == 31 + 2 * len(moments), "what is done is not done again, but for the last step"
        equal(make().run(lambda step: pytest.fail("fitted twice"), journal), whole)
        assert make().call(journal).times == 0
    assert len(list(tmp_path.glob("adapt-layer*"))) == 1, "the state is not needed any more"


def test_it_is_compiled_once_and_before_it_begins(whole):
    cost = prepare([make().call()])[0]
    assert cost.times == 30 and cost.flops > 0
    before = update._jitted._cache_size()
    equal(make().run(batches), whole)
    make(kernel=WANTED, steps=2, seed=9).run(batches)
    assert update._jitted._cache_size() == before, "another clip, seed or number of steps is the same program"


def test_a_mesh_changes_nothing(whole):
    mesh = make_mesh("fsdp=2,tensor=2", jax.devices()[:4])
    made = make(mesh=mesh)
    prepare([made.call()])
    fitted = made.run(batches)
    np.testing.assert_allclose(fitted.losses, whole.losses, rtol=1e-4)
    for name, x in whole.updates.items():
        np.testing.assert_allclose(fitted.updates[name], x, rtol=1e-3, atol=1e-5)


def test_steps_that_are_not_finite_change_nothing_until_they_are_many():
    fitted = make(poison=-1.6).run(batches)
    assert 0 < np.isnan(fitted.losses).sum() <= 3 and np.isfinite(fitted.updates[f"layer.{UP}"]).all()
    with pytest.raises(UserError, match="not finite in 4 of"):
        make(poison=0.0).run(batches)


def test_two_processes_fit_what_one_fits_and_go_on_with_it(whole, tmp_path):
    """Neither holds the whole state, which the first one keeps after every step."""
    ends = together.run(f"""
    from pathlib import Path
    from gp_jax.jobs.shared_journal import journal_of
    from gp_jax.methods import adaptation
    from gp_jax.parallel import make_mesh
    from tests.methods.test_adaptation import batches, make
    adaptation.SECONDS = -1.0
    fit, folder = make(mesh=make_mesh("fsdp=2")), Path({str(tmp_path)!r})
    def until(done, *_):
        if done == 20:
            raise RuntimeError("enough")
    try:
        with journal_of(folder / "work", {{}}) as journal:
            fit.run(batches, journal, until)
    except RuntimeError:
        pass
    with journal_of(folder / "work", {{}}) as journal:
        assert fit.call(journal).times == 11
        fitted = fit.run(batches, journal)
    np.savez(folder / str(number), losses=fitted.losses, **fitted.updates)
    """)
    assert [end.code for end in ends] == [0, 0], ends
    for number in range(2):
        found = np.load(tmp_path / f"{number}.npz")
        np.testing.assert_allclose(found["losses"], whole.losses, rtol=1e-4)
        for name, x in whole.updates.items():
            np.testing.assert_allclose(found[name], x, rtol=1e-3, atol=1e-5)
