"""Which attention kernel is fastest here, by shape: the rules of gp_jax/models/attention/ are read off this table.

Seconds of each kernel that this device has, forwards and with the gradient, as ratios to the einsum in the same run.

examples:
  python tools/bench_attention.py
  python tools/bench_attention.py --dtype bfloat16 --tokens 256,1024,4096 --heads 5x64,8x40
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp

from gp_jax.cli.progress import progress
from gp_jax.models.attention import KERNELS, ONLY_ON, attend, choose, platform


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="by default float32")
    parser.add_argument(
        "--tokens", default="64,256,512,1024,4096", metavar="N,N", help="queries and keys, by default %(default)s"
    )
    parser.add_argument(
        "--heads", default="5x64", metavar="HxD,HxD", help="heads and their width, by default %(default)s"
    )
    parser.add_argument(
        "--repeats", type=int, default=5, metavar="N", help="of which the fastest counts, by default %(default)s"
    )
    arguments = parser.parse_args()
    kernels = [name for name in KERNELS if ONLY_ON.get(name, platform()) == platform()]
    sizes = [tuple(map(int, size.split("x"))) for size in arguments.heads.split(",")]
    cases = [(int(tokens), *size) for size in sizes for tokens in arguments.tokens.split(",")]
    rows = []
    with progress(len(cases) * len(kernels)) as report:
        for tokens, heads, width in cases:
            shape, dtype = (1, max(1, 2048 // tokens), tokens, heads, width), jnp.dtype(arguments.dtype)
            arrays = [jax.random.normal(jax.random.key(seed), shape, dtype) for seed in range(3)]
            times = {}
            for name in kernels:
                report(len(rows) * len(kernels) + len(times), len(cases) * len(kernels), "measuring")
                if choose(name, *arrays[:2], None, None) == name:
                    times[name] = seconds(name, arrays, arguments.repeats)
            rows.append((f"{shape[1]} x {tokens} tokens, {heads} x {width}", times))
    print(f"{jax.devices()[0].device_kind}, {arguments.dtype}: milliseconds of the einsum, then ratios to it")
    print(f"{'':28} {'einsum':>18} " + " ".join(f"{name:>14}" for name in kernels if name != "einsum"))
    for label, times in rows:
        first = " ".join(f"{1e3 * x:8.1f}" for x in times["einsum"])
        others = [
            " / ".join(f"{x / y:.2f}" for x, y in zip(times[name], times["einsum"])) if name in times else "-"
            for name in kernels
            if name != "einsum"
        ]
        print(f"{label:28} {first:>18} " + " ".join(f"{text:>14}" for text in others))


def seconds(kernel: str, arrays: list[jax.Array], repeats: int) -> tuple[float, float]:
    """Of the fastest of some calls: forwards, and with the gradient."""

    def loss(*arrays):
        return attend(*arrays, kernel=kernel).astype(jnp.float32).sum()

    def fastest(function):
        function(*arrays)  # compiled
        taken = []
        for _ in range(repeats):
            begin = time.perf_counter()
            jax.block_until_ready(function(*arrays))
            taken.append(time.perf_counter() - begin)
        return min(taken)

    return fastest(jax.jit(functools.partial(attend, kernel=kernel))), fastest(jax.jit(jax.grad(loss, (0, 1, 2))))


if __name__ == "__main__":
    main()
