"""The update of the networks against a reference written out here, and the laws of accumulation, remat, averaging and
bad steps."""

import dataclasses
import logging

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gp_jax.fit.state import make_state
from gp_jax.fit.step import compile_step, on_mesh
from gp_jax.models.clip import MEAN, STD
from gp_jax.parallel import make_mesh
from gp_jax.training.networks import initial
from gp_jax.training.setup import make_update, prepare
from tests.training import small

RNG = np.random.default_rng(0)
BATCH = small.batch(RNG)


def one_device():
    return make_mesh("data=1", jax.devices()[:1])


def started(config, optimizer=None):
    """(run, state, frozen)"""
    run = prepare(config, one_device())
    if optimizer is not None:
        step = make_update(run.networks, run.objective, optimizer, config)
        run = dataclasses.replace(run, optimizer=optimizer, step=step)
    params = initial(run.networks, run.networks.live, run.mesh)
    state = make_state(params, run.networks.multipliers, run.optimizer, run.mesh)
    return run, state, initial(run.networks, run.networks.frozen, run.mesh)


def stepped(run, state, frozen, batch=BATCH, steps=1):
    """The state after so many steps on the same batch, and the last summary."""
    program = compile_step(run.step, state, frozen, small.shapes_of(batch), run.mesh)
    for _ in range(steps):
        state, summary = program(state, frozen, on_mesh(batch, small.shapes_of(batch), run.mesh))
    return jax.device_get(state), jax.device_get(summary)


@pytest.fixture(scope="module")
def config(records, checkpoint):
    def make(**fields):
        made = small.config("keyframes", records, checkpoint)
        made.optimizer.groups = (("vae|clip", 0.0), (small.UNTRAINED, 0.0), ("global_tokens", 0.5))
        made.objective.update({"drop_text": 0.0, "drop_tokens": 0.0, "drop_both": 0.0})
        made.update(fields)
        return made

    return make


@pytest.fixture(scope="module")
def plain(config):
    """One step of plain gradient descent."""
    run, state, frozen = started(config(), optax.sgd(1.0))
    before = jax.device_get(state)
    return run, frozen, before, *stepped(run, state, frozen)


def test_loss_and_gradient_are_those_of_a_reference(plain):
    run, frozen, before, after, summary = plain
    draws = run.objective.draw(jax.random.fold_in(jax.random.key(run.config.seed), 0), BATCH)
    alpha, sigma = (jnp.asarray(x, jnp.float32) for x in (run.schedule.alpha, run.schedule.sigma))

    @jax.jit
    @jax.value_and_grad
    def reference(trained, example, t, noise):
        """Of one example, frame by frame; v is what the schedule predicts."""
        networks = run.networks.bind({**frozen, **before["params"], **trained})
        vae, unet = networks["vae"], networks["unet"]
        pixels = example["pixels"] / np.float32(127.5) - 1
        observed = pixels * (1 - example["pixel_mask"])[None, :, :, None]
        known = example["known"][:, None, None, None]
        clean = vae.encode(pixels)[0] * vae.config.scaling_factor
        masked = jnp.where(known, clean, vae.encode(observed)[0] * vae.config.scaling_factor)
        mask = jnp.where(known, 0, example["latent_mask"][None, :, :, None])
        noisy = alpha[t] * clean + sigma[t] * noise
        views = (example["views"] / np.float32(255) - np.array(MEAN)) / np.array(STD)
        where = (example[name][None] for name in ("positions", "times", "valid"))
        tokens = networks["global_tokens"](networks["clip"](views.astype(np.float32))[None], *where)
        inputs = jnp.concatenate([noisy, mask, masked], axis=-1)[None]
        text = jnp.zeros((1, 1, unet.config.cross_attention_dim))
        prediction = unet(inputs, t[None], text, tokens, example["frames"][None])[0]
        return jnp.mean((prediction - (alpha[t] * noise - sigma[t] * clean)) ** 2)

    trained = {name: before["params"][name] for name in run.networks.multipliers}
    examples = [jax.tree.map(lambda x, i=i: x[i], (BATCH, draws["t"], draws["noise"])) for i in range(small.BATCH)]
    found = [reference(trained, *example) for example in examples]
    value, gradient = jax.tree.map(lambda *all: sum(all) / small.BATCH, *found)
    assert summary["loss"] == pytest.approx(float(value), rel=1e-5)
    assert summary["grad_norm"] == pytest.approx(float(optax.tree.norm(gradient)), rel=1e-4)
    scale = max(float(jnp.abs(x).max()) for x in gradient.values())
    for name, x in gradient.items():
        moved = before["params"][name] - after["params"][name]
        np.testing.assert_allclose(moved, x, atol=2e-5 * scale, err_msg=name)


def test_frozen_parameters_stay_bit_for_bit(plain):
    run, _, before, after, _ = plain
    names = [name for name in after["params"] if name not in run.networks.multipliers]
    assert "unet.conv_in.kernel" in names and "unet.conv_out.kernel" not in names
    for name in names:
        np.testing.assert_array_equal(before["params"][name], after["params"][name])
    assert not any(name in after["average"] for name in names)


@pytest.mark.parametrize(
    "fields",
    [
        {"microbatches": 4, "remat": "all"},
        *(pytest.param({"remat": kept}, marks=pytest.mark.slow) for kept in ("products", "dots")),
    ],
    ids=str,
)
def test_accumulation_and_remat_change_nothing(plain, config, fields):
    *_, before, after, summary = plain
    found, other = stepped(*started(config(**fields), optax.sgd(1.0)))
    for name in ("loss", "grad_norm", "loss_by_time"):
        np.testing.assert_allclose(other[name], summary[name], rtol=1e-4, err_msg=name)
    step = max(np.abs(after["params"][name] - x).max() for name, x in before["params"].items())
    for name, x in after["params"].items():
        np.testing.assert_allclose(found["params"][name], x, atol=2e-5 * step, err_msg=name)


@pytest.fixture(scope="module")
def adam(config):
    """A run with its own optimizer, compiled: steps(batches) -> (states, summaries), the start first."""
    run, state, frozen = started(config(ema=0.2, log_interval=2))
    program = compile_step(run.step, state, frozen, small.shapes_of(BATCH), run.mesh)

    def steps(batches):
        current = jax.tree.map(jnp.copy, state)
        states, summaries = [jax.device_get(current)], [None]
        for batch in batches:
            current, summary = program(current, frozen, on_mesh(batch, small.shapes_of(batch), run.mesh))
            states.append(jax.device_get(current))
            summaries.append(jax.device_get(summary))
        return states, summaries

    return run, steps


def test_the_average_follows_its_formula_and_sums_begin_anew_with_each_line_of_the_log(adam):
    run, steps = adam
    states, summaries = steps([BATCH] * 3)
    average = states[0]["params"]
    for step in range(3):
        decay = min(0.2, (1 + step) / (10 + step))
        average = {name: decay * average[name] + (1 - decay) * states[step + 1]["params"][name] for name in average}
        for name in run.networks.multipliers:
            np.testing.assert_allclose(states[step + 1]["average"][name], average[name], rtol=1e-5, atol=1e-6)
    _, alone = steps([BATCH])
    assert summaries[1]["loss"] == alone[1]["loss"] and states[3]["sums"]["steps"] == 1
    second = 2 * summaries[2]["loss"] - summaries[1]["loss"]
    assert second != pytest.approx(summaries[1]["loss"], rel=1e-3) and states[2]["sums"]["steps"] == 2
    assert states[2]["sums"]["bucket_count"].sum() == 2 * small.BATCH


def test_multipliers_scale_the_step(adam, config):
    """Adam's first step is the rate times the sign of the gradient, wherever that is not tiny."""
    run, steps = adam
    (before, *_, after), _ = steps([BATCH] * 2)  # the first step of the warm-up has the rate 0
    largest = {}
    for name, multiplier in run.networks.multipliers.items():
        moved = np.abs(after["params"][name] - before["params"][name]).max()
        largest[multiplier] = max(moved, largest.get(multiplier, 0.0))
    rate = run.config.optimizer.rate / 2  # half way up the warm-up
    assert largest == {x: pytest.approx(x * rate, rel=0.1) for x in (0.5, 1.0)}


def test_a_step_that_is_not_finite_is_skipped_and_counted(adam):
    _, steps = adam
    broken = BATCH | {"positions": np.full_like(BATCH["positions"], np.nan)}
    states, summaries = steps([BATCH, broken, BATCH])
    for part in ("params", "average", "moments", "sums"):
        jax.tree.map(np.testing.assert_array_equal, states[1][part], states[2][part])
    assert [int(state["skipped"]) for state in states] == [0, 0, 1, 1]
    assert [int(state["step"]) for state in states] == [0, 1, 2, 3]
    assert np.isfinite(summaries[3]["loss"]) and summaries[3]["skipped"] == 1


def test_a_step_that_is_warm_compiles_nothing_and_asks_the_host_for_nothing(config, caplog):
    run, state, frozen = started(config())
    program = compile_step(run.step, state, frozen, small.shapes_of(BATCH), run.mesh)
    batch = on_mesh(BATCH, small.shapes_of(BATCH), run.mesh)
    state, _ = program(state, frozen, batch)
    with jax.log_compiles(), caplog.at_level(logging.WARNING), jax.transfer_guard("disallow"):
        for _ in range(2):
            state, summary = program(state, frozen, batch)
        jax.block_until_ready((state, summary))
        assert not [record.message for record in caplog.records if "Compiling" in record.message]
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            jnp.ones(3) + np.ones(3)  # what would be noticed
