"""The training step lowers with every kernel for the platforms that have it, of which no device is here.

pytest -m slow tests/training/test_kernels.py      of the shipped configurations, whole: minutes
"""

from pathlib import Path

import jax
import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from gp_jax.bench.case import prepare_case
from gp_jax.models import attention
from gp_jax.parallel import use_mesh
from gp_jax.training.budget import batch_shapes, frozen_shapes
from gp_jax.training.config import load_config
from tests.training import small

CONFIGS = Path(__file__).parents[2] / "configs"
# Kernel, platform -> what an operation of it is called. By auto, whatever is fast there is in use.
CALLS = {
    ("cudnn", "cuda"): "fmha",
    ("auto", "cuda"): "fmha",
    ("xla", "cuda"): None,
    ("einsum", "cuda"): None,
    ("splash", "tpu"): "tpu_custom_call",
    ("auto", "tpu"): "tpu_custom_call",
    ("xla", "tpu"): None,
    ("einsum", "tpu"): None,
}
FEW = {("m3ddm.py", "auto", "tpu")}  # 256 positions, too few for splash to pay


@pytest.fixture
def lowered(monkeypatch):
    """lowered(config, kernel, platform) -> the step of one device, as text."""
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(cudnn, "check_compute_capability", lambda capability: True)
    monkeypatch.setattr(attention.splash, "platform", lambda: "tpu")

    def lower(config, kernel, platform):
        monkeypatch.setattr(attention, "platform", lambda: {"cuda": "gpu"}.get(platform, platform))
        run = prepare_case(config, jax.devices()[:1], segments=1, mesh="data=1", attention=kernel)
        with use_mesh(run.mesh):
            traced = jax.jit(run.step).trace(run.state, frozen_shapes(run), batch_shapes(run))
            return traced.lower(lowering_platforms=(platform,)).as_text()

    return lower


@pytest.mark.parametrize("kernel, platform", [("cudnn", "cuda"), ("splash", "tpu")])
def test_a_small_step_lowers(lowered, records, checkpoint, kernel, platform):
    config = small.config("keyframes", records, checkpoint, dtype="bfloat16", attention=kernel)
    assert CALLS[kernel, platform] in lowered(config, kernel, platform)


@pytest.mark.slow
@pytest.mark.parametrize("kernel, platform", CALLS)
@pytest.mark.parametrize("name", ["sd2.py:keyframes", "sd15.py:interpolation", "m3ddm.py"])
def test_a_step_of_full_size_lowers(lowered, name, kernel, platform):
    text = lowered(load_config(f"{CONFIGS}/{name}"), kernel, platform)
    call = None if (name, kernel, platform) in FEW else CALLS[kernel, platform]
    assert call in text if call else text
