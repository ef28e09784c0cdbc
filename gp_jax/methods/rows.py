"""How many segments a call takes: the rows of a batch on a mesh.

    slices_of(mesh)                                      8 of data=4,fsdp=2,tensor=2: rows that lie side by side
    batch_of([7, 8], mesh, 4, None)                      8: two calls, one idle row; 32 at once would be 49 idle ones

Calls are of one size, a batch that is not full is filled up, and what only fills is idle work.
"""

import math
from collections.abc import Sequence

import jax
from jax.sharding import Mesh

from gp_jax.methods.options import check_whole

MOST_ON_CPU = 1  # on each slice: there a larger batch is no faster, only later


def slices_of(mesh: Mesh | None) -> int:
    """How many segments a mesh takes side by side."""
    return math.prod(mesh.shape[axis] for axis in ("data", "fsdp")) if mesh else 1


def batch_of(levels: Sequence[int], mesh: Mesh | None, most: int, asked: int | None) -> int:
    """How many segments are denoised at once, so that few rows are idle.

    Args:
      levels: see `rows_of_calls`.
      mesh: the devices, None for a single one.
      most: that the memory of an accelerator holds at once, on each slice.
      asked: as many, where that is not None.

    Raises:
      UserError: `asked` is no whole number from 1 on.
    """
    if asked is not None:
        check_whole("batch", asked, 1)
        return asked
    slices = slices_of(mesh)
    return rows_of_calls(levels, slices, slices * (MOST_ON_CPU if jax.default_backend() == "cpu" else most))


def rows_of_calls(levels: Sequence[int], slices: int, most: int) -> int:
    """How many segments a call takes, so that few of its rows only fill it.

    One number for all levels, since each is a program to compile. Of equal work fewer calls are better, and a call is
    taken to cost a quarter of a row on each slice beside its rows.

    Example: 7 and 8 segments on 8 slices, at most 32 at once: 32 rows a call would be 49 idle ones, 8 are one.

    Args:
      levels: of how many segments each of the levels is that are cut into calls.
      slices: rows that the mesh takes side by side; the result is a multiple of them.
      most: that memory holds at once.
    """

    def cost(rows: int) -> float:
        calls = sum(-(-segments // rows) for segments in levels)
        return calls * (rows + slices / 4) if calls else -rows

    return min(range(slices, max(most, slices) + 1, slices), key=cost)
