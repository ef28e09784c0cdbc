"""Losses are zero for perfect predictions and weigh timesteps as published; conditions drop as often as asked."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gp_jax.diffusion.losses import WEIGHTS, drop_conditions, sample_timesteps, training_loss
from gp_jax.diffusion.schedules import PREDICTIONS, NoiseSchedule

T = np.array([0, 10, 300, 700, 999])
RNG = np.random.default_rng(0)
CLEAN, NOISE, ERROR = (RNG.standard_normal((5, 2, 3, 1, 4), np.float32) for _ in range(3))


def loss(schedule: NoiseSchedule, error=ERROR, **options):
    return training_loss(schedule, schedule.target(CLEAN, NOISE, T) + error, CLEAN, NOISE, T, **options)


@pytest.mark.parametrize("weights", ["uniform", "min_snr"])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_a_perfect_prediction_costs_nothing_and_any_other_its_sample(prediction_type, weights):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    np.testing.assert_array_equal(loss(schedule, 0 * ERROR, weights=weights), np.zeros(5))
    alone = loss(schedule, ERROR * (np.arange(5) == 2)[:, None, None, None, None], weights=weights)
    np.testing.assert_array_equal(np.flatnonzero(alone), [2])


@pytest.mark.parametrize("gamma", [1.0, 5.0])
@pytest.mark.parametrize(
    ("prediction_type", "divisor"),
    [("epsilon", lambda snr: snr), ("v_prediction", lambda snr: snr + 1), ("sample", lambda snr: 1)],
)
def test_min_snr_weights_are_the_published_ones(prediction_type, divisor, gamma):
    schedule = NoiseSchedule(prediction_type=prediction_type)
    snr = (schedule.alpha / schedule.sigma)[T] ** 2
    ratio = loss(schedule, weights="min_snr", gamma=gamma) / loss(schedule)
    np.testing.assert_allclose(ratio, np.minimum(snr, gamma) / divisor(snr), rtol=1e-5)


@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
def test_min_snr_with_zero_terminal_snr_counts_the_timestep_that_sampling_begins_with(prediction_type, betas):
    schedule = NoiseSchedule(beta_schedule=betas, prediction_type=prediction_type, rescale_betas_zero_snr=True)
    t, snr = np.arange(1000), (schedule.alpha / schedule.sigma) ** 2
    error = np.ones((1000, 1), np.float32)
    weights = training_loss(schedule, schedule.target(error, error, t) + error, error, error, t, weights="min_snr")
    divisor = snr + 1 if prediction_type == "v_prediction" else 1
    np.testing.assert_allclose(weights, np.minimum(snr + 1, 5) / divisor, rtol=1e-4)
    assert weights[-1] == 1


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize("prediction_type", PREDICTIONS)
def test_every_timestep_has_a_finite_weight_and_counts(prediction_type, zero_snr):
    if zero_snr and prediction_type == "epsilon":
        return
    schedule = NoiseSchedule(prediction_type=prediction_type, rescale_betas_zero_snr=zero_snr)
    for name in ("uniform", "min_snr"):
        weights = np.asarray(WEIGHTS[name](schedule, np.arange(1000), 5.0))
        assert np.isfinite(weights).all() and (weights > 0).all()


def test_min_snr_counts_the_error_of_the_clean_latent_whatever_is_predicted():
    """The same wrong clean latent costs the same, told as noise, as velocity or as itself."""

    def cost(prediction_type):
        schedule = NoiseSchedule(prediction_type=prediction_type)
        noisy = schedule.add_noise(CLEAN, NOISE, T)
        wrong = CLEAN + 0.1 * ERROR
        alpha, sigma = (rate[T].reshape(-1, 1, 1, 1, 1) for rate in (schedule.alpha, schedule.sigma))
        prediction = schedule.target(wrong, (noisy - alpha * wrong) / sigma, T)
        return training_loss(schedule, prediction, CLEAN, NOISE, T, weights="min_snr")

    for name in ("epsilon", "v_prediction"):
        np.testing.assert_allclose(cost(name), cost("sample"), rtol=2e-3)


def test_conditions_drop_as_often_as_asked_and_independently():
    count = 20_000
    text, null, tokens = jnp.ones((count, 2, 3)), jnp.full((2, 3), -1.0), jnp.ones((count, 4, 3), jnp.bfloat16)
    p_text, p_tokens, p_both = 0.2, 0.3, 0.1
    new_text, new_tokens = drop_conditions(
        jax.random.key(0), text, null, tokens, p_text=p_text, p_tokens=p_tokens, p_both=p_both
    )
    assert (new_text.shape, new_text.dtype) == (text.shape, text.dtype)
    assert (new_tokens.shape, new_tokens.dtype) == (tokens.shape, tokens.dtype)
    no_text, no_tokens = (new_text == -1).all((1, 2)), (new_tokens == 0).all((1, 2))
    assert ((new_text == 1).all((1, 2)) | no_text).all()
    assert ((new_tokens == 1).all((1, 2)) | no_tokens).all()
    keep = 1 - p_both
    expected = [1 - (1 - p_text) * keep, 1 - (1 - p_tokens) * keep, 1 - keep * (1 - p_text * p_tokens)]
    np.testing.assert_allclose([no_text.mean(), no_tokens.mean(), (no_text & no_tokens).mean()], expected, atol=0.015)


@pytest.mark.parametrize(("p", "dropped"), [(0.0, False), (1.0, True)])
def test_certain_events_are_certain(p, dropped):
    text, tokens = drop_conditions(
        jax.random.key(1), jnp.ones((9, 1, 2)), jnp.zeros((1, 2)), jnp.ones((9, 1, 2)), p_text=p, p_tokens=p, p_both=0.0
    )
    assert bool((text == 0).all()) == bool((tokens == 0).all()) == dropped
    assert bool((text == 1).all()) == bool((tokens == 1).all()) != dropped


@pytest.mark.parametrize("steps", [1, 4])
def test_timesteps_of_few_steps_are_those_that_sampling_visits(steps):
    schedule = NoiseSchedule(timestep_spacing="trailing")
    keys = jax.random.split(jax.random.key(0), 50)
    drawn = np.concatenate([sample_timesteps(key, 4, schedule, steps) for key in keys])
    visited, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(visited[::-1], schedule.timesteps(steps))
    assert counts.min() == counts.max()


def test_timesteps_cover_the_schedule_evenly_in_every_batch_and_over_batches():
    schedule, batch = NoiseSchedule(), 7
    draw = jax.jit(jax.vmap(lambda key: sample_timesteps(key, batch, schedule)))
    t = np.asarray(draw(jax.random.split(jax.random.key(0), 4000)))
    assert t.dtype == np.int32 and t.min() == 0 and t.max() == 999
    gaps = np.diff(np.sort(t, axis=1), axis=1)
    assert gaps.min() >= 142 and gaps.max() <= 143
    for position in range(batch):  # no place in the batch is tied to a noise level
        np.testing.assert_allclose(np.histogram(t[:, position], 10, (0, 1000))[0] / 4000, 0.1, atol=0.02)
