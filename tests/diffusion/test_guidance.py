"""Guidance is its formula, computes no branch that the scales do not need, and repeats every input rightly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

from gp_jax.diffusion.guidance import check_scales, guide
from gp_jax.errors import UserError

BATCH = 3
RNG = np.random.default_rng(0)
SAMPLE = RNG.standard_normal((BATCH, 2, 5, 1, 4), np.float32)
TEXT = RNG.standard_normal((BATCH, 3, 6), np.float32)
NULL = RNG.standard_normal((3, 6), np.float32)
TOKENS = RNG.standard_normal((BATCH, 2, 6), np.float32)
FRAMES = np.arange(BATCH * 2).reshape(BATCH, 2)
TIMES = np.array([3, 500, 999])


class Recorder:
    """A model that mixes all its inputs and remembers how large a batch it was given."""

    def __init__(self):
        self.batches = []

    def __call__(self, sample, timesteps, text, tokens, frames=None, condition=None):
        self.batches.append(len(sample))
        mixed = jnp.sin(text.sum((1, 2))) + (0 if tokens is None else jnp.cos(tokens).sum((1, 2))) + timesteps / 1000
        pace = 0 if frames is None else frames[:, :, None, None, None] * 0.1
        return jnp.tanh(sample * mixed[:, None, None, None, None]) + pace


def branch(text, tokens):
    return Recorder()(SAMPLE, TIMES, text, tokens, FRAMES)


def guided(model=None, text=TEXT, tokens=TOKENS, times=TIMES, **options):
    return guide(model or Recorder(), SAMPLE, times, text, NULL, tokens, frames=FRAMES, condition=None, **options)


@pytest.mark.parametrize(
    ("text_scale", "token_scale", "branches"),
    [(1, 1, 1), (0, 1, 1), (0, 0, 1), (7.5, 7.5, 2), (7.5, 1, 2), (0, 2.5, 2), (7.5, 2.5, 3), (1, 0.5, 3)],
)
def test_guidance_is_its_formula_in_one_call_of_the_needed_branches(text_scale, token_scale, branches):
    null = np.broadcast_to(NULL, TEXT.shape)
    nothing, global_only, full = branch(null, 0 * TOKENS), branch(null, TOKENS), branch(TEXT, TOKENS)
    expected = nothing + token_scale * (global_only - nothing) + text_scale * (full - global_only)
    model = Recorder()
    np.testing.assert_allclose(guided(model, text_scale=text_scale, token_scale=token_scale), expected, atol=1e-5)
    assert model.batches == [BATCH * branches]


def test_scales_of_one_are_the_conditional_prediction():
    np.testing.assert_allclose(guided(), branch(TEXT, TOKENS), atol=1e-6)


def test_without_text_the_null_prompt_is_used_and_its_scale_is_without_effect():
    null = np.broadcast_to(NULL, TEXT.shape)
    nothing, global_only = branch(null, 0 * TOKENS), branch(null, TOKENS)
    result = guided(text=None, text_scale=9.0, token_scale=3.0)
    np.testing.assert_allclose(result, nothing + 3 * (global_only - nothing), atol=1e-5)


def test_without_tokens_guidance_is_the_usual_one():
    null = np.broadcast_to(NULL, TEXT.shape)
    nothing, full = branch(null, None), branch(TEXT, None)
    result = guided(tokens=None, text_scale=3.0, token_scale=9.0)
    np.testing.assert_allclose(result, nothing + 3 * (full - nothing), atol=1e-5)


def test_a_scalar_timestep_stands_for_the_whole_batch():
    scales = {"text_scale": 4.0, "token_scale": 2.0}
    np.testing.assert_array_equal(guided(times=500, **scales), guided(times=np.full(BATCH, 500), **scales))


def test_rescaling_is_that_of_diffusers_and_restores_the_deviation():
    scales = {"text_scale": 7.5, "token_scale": 2.5}
    plain, conditional = np.asarray(guided(**scales)), np.asarray(branch(TEXT, TOKENS))
    expected = rescale_noise_cfg(torch.tensor(plain), torch.tensor(conditional), 0.7)
    np.testing.assert_allclose(guided(**scales, rescale=0.7), expected, atol=1e-5)
    whole = np.asarray(guided(**scales, rescale=1.0)).reshape(BATCH, -1)
    np.testing.assert_allclose(whole.std(1), conditional.reshape(BATCH, -1).std(1), rtol=1e-5)


def test_a_sharded_batch_is_guided_without_moving_data():
    devices = 4
    mesh = jax.make_mesh(
        (devices,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices]
    )
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    inputs = [
        jax.device_put(np.resize(array, (8, *array.shape[1:])), split) for array in (SAMPLE, TEXT, TOKENS, FRAMES)
    ]

    def predict(sample, text, tokens, frames):
        return guide(Recorder(), sample, 500, text, NULL, tokens, text_scale=4.0, token_scale=2.0, frames=frames)

    compiled = jax.jit(predict).lower(*inputs).compile()
    assert not any(
        word in compiled.as_text() for word in ("all-gather", "all-to-all", "collective-permute", "all-reduce")
    )
    np.testing.assert_allclose(compiled(*inputs), predict(*map(np.asarray, inputs)), atol=1e-5)


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf"), np.float32("nan"), None, "2", True, 1j])
def test_scales_that_are_no_finite_number_are_refused_by_name(scale):
    check_scales(guidance=-1, text_guidance=np.float32(7.5))
    with pytest.raises(UserError, match="text_guidance is a finite number"):
        check_scales(guidance=1.0, text_guidance=scale)
