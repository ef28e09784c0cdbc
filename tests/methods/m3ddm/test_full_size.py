"""The published size, once: random weights, one window of 16 frames in a frame of 256 x 256 pixels.

pytest -m slow -s tests/methods/m3ddm/test_full_size.py          about 17 GB of memory; prints what it measured
"""

import re
import time
from pathlib import Path

import numpy as np
import pytest

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.folder import Parts
from gp_jax.checkpoint.settings import M3DDMSettings
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.geometry import Canvas
from gp_jax.methods.m3ddm.options import Options
from gp_jax.methods.m3ddm.pipeline import Model
from gp_jax.methods.method import ArrayClip
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.m3ddm.network import M3DDM, M3DDMConfig
from tests import small_m3ddm


def network(cls, config):
    """Weights from a pool of normal numbers, as large as keeps the scale of what they are applied to."""
    module, pool = parameters.abstract(cls, config), np.random.default_rng(0).standard_normal(30_000_000, np.float32)

    def draw(name, shape):
        array = pool[: int(np.prod(shape.shape))].reshape(shape.shape)
        if len(shape.shape) > 1:
            return array / np.sqrt(np.prod(shape.shape[:-1]), dtype=np.float32)
        return (0.1 * array + name.endswith(("scale", "variance"))).astype(shape.dtype)

    parameters.load_into(module, {name: draw(name, x) for name, x in parameters.flatten(module).items()})
    return module


@pytest.mark.slow  # 1195 s on two cores shared with others
def test_a_window_of_full_size():
    networks = {"m3ddm": network(M3DDM, M3DDMConfig()), "vae": network(AutoencoderKL, AutoencoderConfig())}
    schedule = NoiseSchedule.from_config(small_m3ddm.SCHEDULER)
    model = Model(Parts(M3DDMSettings(steps=3), schedule, networks, None))
    source, canvas = np.zeros((16, 256, 160, 3), np.uint8), Canvas.from_size(256, 160, 256, 256)
    source[:] = np.random.default_rng(0).integers(0, 256, (16, 8, 5, 3)).repeat(32, axis=1).repeat(32, axis=2)
    begin = time.monotonic()
    job = model.prepare(ArrayClip(source), canvas, Options())
    made = np.stack(list(job.frames()))
    seconds = time.monotonic() - begin
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) * 1024
    print(f"\n16 frames, {job.estimate.evaluations} evaluations: {seconds:.0f} s with compilation, {peak / 1e9:.1f} GB")
    assert made.shape == (16, 256, 256, 3) and peak < 20e9
    np.testing.assert_array_equal(made[(slice(None), *canvas.observed)], source)
