"""Which way of computing a 3x3 convolution is fastest on this CPU: what gp_jax/models/cpu_convolution.py is read off.

Times of XLA's own in float32, and of the other ways as ratios to it in the same run; * marks what sampling takes.

examples:
  python tools/bench_convolution.py
  python tools/bench_convolution.py --shapes 1x64x64x320x320,16x32x32x128x128 --repeats 9
"""

import argparse
import time

import jax

from gp_jax.cli.arguments import HelpFormatter, count, shapes
from gp_jax.cli.progress import progress
from gp_jax.models import cpu_convolution

SHAPES = (
    "1x8x8x128x128,1x8x8x640x640,1x8x8x1280x1280,1x16x16x320x320,1x16x16x640x640,1x16x16x1280x1280,"
    "1x32x32x320x320,1x32x32x640x640,1x64x64x320x320,1x64x64x640x640,30x16x16x128x128,16x32x32x128x128,"
    "16x16x16x640x640"
)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument(
        "--shapes", type=shapes, default=SHAPES, metavar="A,B", help="maps x height x width x inputs x outputs"
    )
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="of which the middle one counts")
    arguments = parser.parse_args()
    if len(arguments.shapes[0]) != 5:
        parser.error("--shapes wants 5 numbers in each shape, such as 1x64x64x320x320")
    print(f"{jax.devices()[0].device_kind}, float32: milliseconds of XLA's own, then how many times as fast others are")
    print(f"{'maps, channels':28} {'xla':>8} {'columns':>9} {'winograd':>9}")
    with progress(len(arguments.shapes)) as report:
        rows = []
        for done, shape in enumerate(arguments.shapes):
            report(done, len(arguments.shapes), "measuring")
            rows.append(row(shape, arguments.repeats))
    print("\n".join(rows))


def row(shape: tuple[int, ...], repeats: int) -> str:
    """Of one shape; the ways take turns, so that what else the machine does falls on all of them."""
    *size, inputs, outputs = shape
    maps = jax.random.normal(jax.random.key(0), (*size, inputs))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, inputs, outputs))
    turned = jax.jit(cpu_convolution.turn_for_winograd)(kernel)
    ways = {"xla": (_xla, kernel), "columns": (cpu_convolution.by_columns, kernel)}
    ways["winograd"] = cpu_convolution.by_winograd, turned
    programs = {name: (jax.jit(function), given) for name, (function, given) in ways.items()}
    taken = {name: [] for name in programs}
    for turn in range(repeats + 1):
        for name, (program, given) in programs.items():
            begin = time.perf_counter()
            jax.block_until_ready(program(maps, given))
            if turn:  # the first one compiles
                taken[name].append(time.perf_counter() - begin)
    middle = {name: sorted(times)[len(times) // 2] for name, times in taken.items()}
    chosen = "columns" if cpu_convolution.takes_columns(maps, kernel) else "xla"
    if cpu_convolution.may_take_winograd(kernel) and cpu_convolution.takes_winograd(maps, turned):
        chosen = "winograd"
    mark = {name: "*" if name == chosen else " " for name in middle}
    label = f"{' x '.join(map(str, size))}, {inputs} to {outputs}"
    ratios = [f"{middle['xla'] / middle[name]:8.2f}{mark[name]}" for name in ("columns", "winograd")]
    return f"{label:28} {1000 * middle['xla']:7.2f}{mark['xla']} " + " ".join(ratios)


def _xla(maps: jax.Array, kernel: jax.Array) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(maps, kernel, (1, 1), [(1, 1), (1, 1)], dimension_numbers=numbers)


if __name__ == "__main__":
    main()
