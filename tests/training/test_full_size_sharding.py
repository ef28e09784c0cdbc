"""The full-size networks are really spread over the devices: state, gradients, activations. No weight is ever made.

pytest -m slow -s tests/training/test_full_size_sharding.py      compiles the whole step for 8 devices, and prints its
budget: minutes, and 4 GB of memory
"""

import math
from pathlib import Path

import jax
import pytest

from gp_jax.bench.case import model_flops
from gp_jax.bench.step import trace_step
from gp_jax.parallel import make_mesh
from gp_jax.training.budget import Traffic, bytes_on_device, collectives, count
from gp_jax.training.config import load_config
from gp_jax.training.setup import prepare

CONFIG = f"{Path(__file__).parents[2] / 'configs' / 'sd2.py'}:keyframes"
SMALL = 4e6  # bytes of one array that may lie whole on every device
# One level of the full width, on little footage: every kind of parameter, compiled in seconds.
NARROW = {
    "block_out_channels": [1280],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "attention_head_dim": [20],
}


def prepared(mesh, devices, rows, narrow=False):
    """The key-frame stage of Stable Diffusion 2, whole or one level of it, `rows` segments a step."""
    config = load_config(CONFIG)
    config.batch_size, config.microbatches = rows, 1
    if narrow:
        config.networks.unet.update(NARROW)
        config.networks.global_tokens.layers = 1
        config.data.update({"segment_frames": 4, "feature_frames": 1})
        config.settings.native_area = 64 * 64
    return prepare(config, make_mesh(mesh, jax.devices()[:devices]))


@pytest.mark.parametrize(
    "mesh, parts, excess",
    [("fsdp=8", 8, 0.01), ("fsdp=4,tensor=2", 8, 0.08), ("data=2,fsdp=4", 4, 0.01)],
    ids=["fsdp", "fsdp and tensor", "data and fsdp"],
)
def test_each_device_holds_its_share_of_the_full_state(mesh, parts, excess):
    """`tensor` cuts heads and hidden widths, 93 % of the parameters; the projections around them only `fsdp` cuts."""
    run = prepared(mesh, 8, rows=8)
    whole = sum(math.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(run.state))
    parameters = sum(math.prod(x.shape) for x in run.networks.shapes.values())
    assert parameters > 1.25e9 and whole == pytest.approx(4 * 4 * parameters, rel=1e-3)  # an average and two moments
    assert whole / parts < bytes_on_device(run.state) < (1 + excess) * whole / parts
    uncut = [x for x in jax.tree.leaves(run.state) if x.sharding.is_fully_replicated]
    assert max(math.prod(x.shape) * x.dtype.itemsize for x in uncut) < SMALL


@pytest.mark.parametrize("narrow", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["one level", "whole"])
def test_parameters_travel_and_activations_stay(narrow):
    """Eight devices with eight segments: each computes what a lone one does for one segment."""
    run = prepared("fsdp=8", 8, rows=8, narrow=narrow)
    budget, sizes = count(run), [4 * math.prod(x.shape) for x in run.networks.shapes.values()]
    print(f"\n{budget}")
    # Computed again in the backward pass: at most the forward pass, a third of the whole.
    assert budget.flops < 4 / 3 * model_flops(run.config, trace_step)
    # Parameters come one by one, to the forward pass, to its repetition and to the backward pass; their gradients are
    # summed once. What else travels is small.
    assert set(budget.collectives) <= {"all-gather", "all-reduce", "all-to-all"}
    assert budget.collectives["all-gather"].largest <= max(sizes)
    assert budget.traffic("all-gather") < 3 * sum(sizes)
    assert budget.traffic("all-reduce") < 1.1 * sum(sizes)
    assert budget.traffic("all-to-all") < 0.05 * sum(sizes)


def test_collectives_are_read_from_the_text():
    text = """
      %a = f32[8,4]{1,0} all-gather(f32[1,4]{1,0} %x), dimensions={0}
      %b = (bf16[2,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(bf16[2,4]{1,0} %x)
      %c = bf16[16,4]{1,0} all-gather-done(%b)
      ROOT %d = (f32[3]{0}, f32[]) all-reduce(f32[3]{0} %y, f32[] %z), to_apply=%add
    """
    assert collectives(text) == {"all-gather": Traffic(2, 256, 128), "all-reduce": Traffic(1, 16, 16)}
