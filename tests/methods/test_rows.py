"""Rows of a mesh that nobody needs are few, for every method that denoises segments of a clip side by side."""

import jax
import pytest

from gp_jax.methods.globalpaint import pipeline as globalpaint
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.methods.m3ddm import pipeline as m3ddm
from gp_jax.methods.m3ddm.plan import hierarchy
from gp_jax.methods.motia import pipeline as motia
from gp_jax.methods.motia.plan import windows
from gp_jax.methods.rows import batch_of, rows_of_calls, slices_of
from gp_jax.parallel import make_mesh

# Method -> segments of the levels that are cut into calls, of a clip, and how many are held at once on a slice.
METHODS = {
    "globalpaint": (lambda n: [len(level) for level in PLANS["hierarchical"](n, 16).levels[1:]], globalpaint),
    "m3ddm": (lambda n: [len(level.windows) for level in hierarchy(n)[1:]], m3ddm),
    "motia": (lambda n: [len(windows(n))], motia),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("slices, share", [(1, 0.05), (2, 0.08), (8, 0.25), (16, 0.46)])
def test_few_rows_of_a_mesh_are_idle(name, slices, share):
    """Clips of up to 512 frames by segments of 16."""
    levels_of, module = METHODS[name]
    most = slices * module.MOST_AT_ONCE

    def idle(levels, rows):
        return sum(-(-segments // rows) * rows - segments for segments in levels)

    total = kept = whole = 0
    for frames in range(9, 513, 7):
        levels = levels_of(frames)
        rows = rows_of_calls(levels, slices, most)
        assert rows % slices == 0 and slices <= rows <= most
        total, kept, whole = total + sum(levels), kept + idle(levels, rows), whole + idle(levels, most)
    assert kept <= share * (total + kept) and kept <= whole
    assert rows_of_calls([4], slices, 1) == slices and rows_of_calls([], slices, 4 * slices) == 4 * slices


def test_a_cpu_takes_one_row_on_each_slice_and_an_accelerator_what_it_holds(monkeypatch):
    mesh = make_mesh("data=2,fsdp=2,tensor=2", jax.devices())
    assert (slices_of(mesh), slices_of(None)) == (4, 1)
    assert batch_of([9], mesh, 4, None) == 4 and batch_of([9], None, 4, None) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert batch_of([9], mesh, 4, None) == 12 and batch_of([9], None, 4, None) == 3 and batch_of([9], mesh, 4, 5) == 5
