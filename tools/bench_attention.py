"""Which attention kernel is fastest here, by shape: the rules of gp_jax/models/attention/ are read off this table.

Times of each kernel that this device has, forwards and with the gradient, as ratios to the einsum in the same run.

examples:
  python tools/bench_attention.py
  python tools/bench_attention.py --dtype bfloat16 --shapes 16x1024x5x64,16x256x10x64,16x64x20x64,1024x16x5x64
  python tools/bench_attention.py --dtype bfloat16 --shapes 32x512x5x64 --bias
"""

import argparse
import time

import jax
import jax.numpy as jnp

from gp_jax.cli.arguments import HelpFormatter, count, shapes
from gp_jax.cli.progress import progress
from gp_jax.models.attention import KERNELS, ONLY_ON, attend, choose, platform

SHAPES = "32x64x5x64,8x256x5x64,4x512x5x64,2x1024x5x64,1x4096x5x64"
CALLS = 10  # one behind the other, so that none waits for the host


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of all numbers")
    parser.add_argument(
        "--shapes", type=shapes, default=SHAPES, metavar="A,B", help="groups x tokens x heads x width of a head"
    )
    parser.add_argument("--bias", action="store_true", help="with one of tokens by tokens for each head")
    parser.add_argument("--repeats", type=count, default=5, metavar="N", help="of which the fastest counts")
    arguments = parser.parse_args()
    kernels = [name for name in KERNELS if ONLY_ON.get(name, platform()) == platform()]
    if len(arguments.shapes[0]) != 4:
        parser.error("--shapes wants 4 numbers in each shape, such as 4x512x5x64")
    rows, total = [], len(arguments.shapes) * len(kernels)
    with progress(total) as report:
        for groups, tokens, heads, width in arguments.shapes:
            shape, dtype = (1, groups, tokens, heads, width), jnp.dtype(arguments.dtype)
            arrays = [jax.random.normal(jax.random.key(seed), shape, dtype) for seed in range(3)]
            bias = jax.random.normal(jax.random.key(3), (1, 1, heads, tokens, tokens)) if arguments.bias else None
            times = {}
            for name in kernels:
                report(len(rows) * len(kernels) + len(times), total, "measuring")
                if choose(name, *arrays[:2], bias, None) == name:
                    times[name] = seconds(name, arrays, bias, arguments.repeats)
            rows.append((f"{groups} x {tokens} tokens, {heads} x {width}", times))
    told = ", with a bias" if arguments.bias else ""
    print(f"{jax.devices()[0].device_kind}, {arguments.dtype}{told}: microseconds of the einsum, then ratios to it")
    print(f"{'':28} {'einsum':>18} " + " ".join(f"{name:>14}" for name in kernels if name != "einsum"))
    for label, times in rows:
        first = " ".join(f"{1e6 * x:8.0f}" for x in times["einsum"])
        others = [
            " / ".join(f"{x / y:.2f}" for x, y in zip(times[name], times["einsum"])) if name in times else "-"
            for name in kernels
            if name != "einsum"
        ]
        print(f"{label:28} {first:>18} " + " ".join(f"{text:>14}" for text in others))


def seconds(kernel: str, arrays: list[jax.Array], bias: jax.Array | None, repeats: int) -> tuple[float, float]:
    """Of the fastest of some calls: forwards, and with the gradient."""

    def run(bias, *arrays):
        return attend(*arrays, bias=bias, kernel=kernel)

    def loss(bias, *arrays):
        return run(bias, *arrays).astype(jnp.float32).sum()

    def fastest(function):
        function(bias, *arrays)  # compiled
        taken = []
        for _ in range(repeats):
            begin = time.perf_counter()
            jax.block_until_ready([function(bias, *arrays) for _ in range(CALLS)])
            taken.append((time.perf_counter() - begin) / CALLS)
        return min(taken)

    moving = (1, 2, 3) if bias is None else (0, 1, 2, 3)
    return fastest(jax.jit(run)), fastest(jax.jit(jax.grad(loss, moving)))


if __name__ == "__main__":
    main()
