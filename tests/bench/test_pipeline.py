"""What is projected of a clip that was measured is what it took."""

import jax
import pytest

from gp_jax.bench.case import prepare_case
from gp_jax.bench.pipeline import bench_pipeline, check_pipeline, pipeline_of, projected
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.options import Count
from gp_jax.training.config import default_config
from tests import small_networks


def run_of(stage):
    config = default_config(stage)
    config.networks = {name: small_networks.NETWORKS[name][1].to_json() for name in config.networks}
    config.settings.update({"native_area": 16 * 16, "segment_frames": 4})
    config.data.update({"segment_frames": 4, "feature_frames": 2, "view_size": 16, "view_patch": 8})
    return prepare_case(config, jax.devices()[:1], segments=1)


def test_a_projection_of_what_was_measured_is_what_it_took():
    run, canvas = run_of("keyframes"), Canvas.from_size(16, 16, 16, 32)
    pipeline, options = pipeline_of(run, mesh=None), Options(steps=Count(2), guidance=2.0)
    row = bench_pipeline(run, pipeline, canvas, frames=9, options=options, repeats=1)
    seconds, calls = projected(row, pipeline, options, 9, canvas)
    assert seconds == pytest.approx(row.times.median, rel=1e-3)
    assert calls["key frames"] == 1 and calls["interpolation"] > 1 and calls["finish"] == 2
    more, _ = projected(row, pipeline, options, 90, canvas)
    assert 5 * seconds < more < 20 * seconds
    assert sum(row.shares.values()) == pytest.approx(1) and row.flops > 0


def test_networks_of_no_pipeline_are_refused():
    with pytest.raises(UserError, match="the stage autoencoder has no network for it"):
        check_pipeline(run_of("autoencoder"))
