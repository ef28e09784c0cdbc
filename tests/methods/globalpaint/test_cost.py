"""Costs follow from the checkpoint and the plan."""

import dataclasses

import numpy as np
import pytest

from gp_jax.checkpoint.tensors import read_tensors
from gp_jax.evaluation.protocols import PROTOCOLS
from gp_jax.methods.globalpaint.cost import program_cost
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.globalpaint.plan import PLANS
from tests import small_networks

CANVAS = PROTOCOLS["m3ddm-256"].cases["0.25"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def pipeline(folder):
    return OutpaintPipeline.from_pretrained(folder)


def test_parameters_are_those_of_all_files(folder, pipeline):
    counts = [np.prod(t.shape) for path in folder.rglob("*.safetensors") for t in read_tensors(path).values()]
    assert program_cost(pipeline, CANVAS, 5).parameters == sum(map(int, counts))


def test_flops_are_those_of_the_calls_that_the_plan_makes(pipeline):
    def per_segment(plan, steps):
        segments = sum(map(len, PLANS[plan](22, 4).levels))
        return program_cost(pipeline, CANVAS, 22, plan=plan, steps=steps).flops * 22 / segments / steps

    call = per_segment("hierarchical", 1)
    np.testing.assert_allclose([per_segment("hierarchical", 3), per_segment("sequential", 2)], call)
    # The convolution at the network's entry alone, from 9 channels to 16.
    native = CANVAS.native(small_networks.SETTINGS.native_area, pipeline.checkpoint.vae.config.downsampling)
    cells = native.height * native.width / pipeline.checkpoint.vae.config.downsampling**2
    assert call > 2 * 4 * cells * 9 * 9 * small_networks.WIDTH


def test_guidance_costs_a_second_row(pipeline):
    checkpoint = dataclasses.replace(
        pipeline.checkpoint, settings=dataclasses.replace(pipeline.checkpoint.settings, guidance=2.0)
    )
    plain, guided = (program_cost(p, CANVAS, 5) for p in (pipeline, OutpaintPipeline(checkpoint)))
    np.testing.assert_allclose(guided.flops, 2 * plain.flops, rtol=0.02)
    assert guided.memory > plain.memory > 0
