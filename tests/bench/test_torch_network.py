"""Torch's side of the comparison computes what ours does, with the same weights."""

import dataclasses

import jax
import numpy as np
import pytest
import torch

from gp_jax.bench.torch_network import UNet, state_dict_of
from gp_jax.checkpoint import parameters
from gp_jax.errors import UserError
from gp_jax.models.unet import UNet as Ours
from tests import small_networks

# Two levels, one with transformers; every second window is shifted, and windows do not divide the maps.
CONFIG = dataclasses.replace(
    small_networks.UNET,
    block_out_channels=(16, 24),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    attention_head_dim=(2, 3),
    window=(2, 3, 4),
)


@pytest.mark.parametrize(
    "config, tokens",
    [
        (CONFIG, 3),
        (dataclasses.replace(CONFIG, window=None, flip_sin_to_cos=False, freq_shift=1), 3),
        (dataclasses.replace(CONFIG, temporal=False, window=None, global_tokens=False), 0),
    ],
    ids=["video", "temporal alone", "image"],
)
def test_both_compute_the_same(config, tokens):
    rng, (batch, frames, height, width) = np.random.default_rng(0), (2, 3, 5, 6)
    ours = parameters.abstract(Ours, config, attention="einsum")
    weights = small_networks.random_weights(parameters.flatten(ours), seed=1)
    parameters.load_into(ours, weights)
    sample = rng.normal(size=(batch, frames, height, width, config.in_channels)).astype(np.float32)
    times, rows = np.array([3.0, 800.0], np.float32), np.array([[0, 2, 4], [7, 8, 9]], np.int32)
    text, read = (rng.normal(size=(batch, n, config.cross_attention_dim)).astype(np.float32) for n in (5, tokens))
    made = jax.jit(lambda *given: ours(*given))(sample, times, text, read if tokens else None, rows)

    theirs = UNet(config, (frames, height, width))
    theirs.load_state_dict(state_dict_of(weights))
    maps = torch.from_numpy(sample).flatten(0, 1).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    given = [None if x is None else torch.from_numpy(x) for x in (times, text, read if tokens else None, rows)]
    with torch.no_grad():
        answer = theirs.to(memory_format=torch.channels_last)(maps, *given)
    answer = answer.permute(0, 2, 3, 1).unflatten(0, (batch, frames)).numpy()
    np.testing.assert_allclose(answer, made, atol=1e-5 * np.abs(made).max())


def test_what_it_has_not_is_refused():
    with pytest.raises(UserError, match="no motion modules"):
        UNet(dataclasses.replace(CONFIG, motion_modules=True, motion_heads=2, motion_groups=2), (2, 4, 4))
