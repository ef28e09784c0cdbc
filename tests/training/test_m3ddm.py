"""M3DDM is trained alike on one device and on many, in one piece and in parts, kept and computed again."""

import jax
import numpy as np
import pytest

from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.parallel import make_mesh
from gp_jax.training.log import read_log
from gp_jax.training.loop import train
from tests.training import small


def run(windows, m3ddm, workdir, mesh="data=1", **fields):
    """Loss and norm of the gradient of two steps; their learning rate is not 0."""
    config = small.m3ddm(windows, m3ddm, steps=2, **fields)
    config.optimizer.update({"warmup": 0, "schedule": "constant"})
    assert train(config, workdir, mesh=make_mesh(mesh, jax.devices()[: 8 if "," in mesh else 1]))
    return [[line[name] for name in ("loss", "grad_norm")] for line in read_log(workdir)]


@pytest.mark.slow
def test_meshes_parts_and_remat_change_nothing(windows, m3ddm, tmp_path):
    alone = run(windows, m3ddm, tmp_path / "alone")
    assert alone[0] != alone[1]
    parts = run(windows, m3ddm, tmp_path / "parts", microbatches=2, remat="all")
    np.testing.assert_allclose(parts, alone, rtol=2e-4)
    spread = run(windows, m3ddm, tmp_path / "spread", "fsdp=2,tensor=2,context=2")
    np.testing.assert_allclose(spread, alone, rtol=2e-4)

    before, after = (
        read_tensors(folder / "m3ddm" / "model.safetensors") for folder in (m3ddm, tmp_path / "alone/checkpoint")
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert any(name.startswith("global_encoder") for name in changed)
    assert not any(name.endswith(("norm.mean", "norm.variance", "norm.steps")) for name in changed)
    assert after["global_encoder.stages.0.0.layers.0.norm.steps"].dtype == np.int32
