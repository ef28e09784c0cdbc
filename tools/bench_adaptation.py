"""What fitting a LoRA to a clip costs MOTIA at full size: memory of a step, counted from its program, and time.

Weights are zeros: how long they take does not depend on them. XLA for CPUs computes once what remat wants computed
twice, so that its count is that without remat. What the backward pass waits for is told apart. 16 frames of 256x256,
float32:

    remat      kept for the backward pass    all temporaries    (beside parameters of 6.83 GB)
    none                 16.87 GB               20.88 GB
    products             11.89 GB
    dots                  9.22 GB
    all                   0.62 GB               21.01 GB

Of 128x128, by the last line below: 4.24 and 7.15 GB without remat, and 128 s a step on two CPU cores, one of which had
other work.

examples:
  python tools/bench_adaptation.py --remat none,products,dots,all --trace
  python tools/bench_adaptation.py --size 256x256 --frames 16
  python tools/bench_adaptation.py --size 128x128 --frames 16 --steps 2
"""

import argparse
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.cli.arguments import HelpFormatter, count, size
from gp_jax.convert.known import KNOWN
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.methods.adaptation import Adaptation
from gp_jax.methods.motia.clip_lora import NoiseLoss, first_updates
from gp_jax.models.remat import REMAT

# Of XLA for CPUs; they change the machine code only.
_HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
SCHEDULE = NoiseSchedule(beta_start=0.00085, beta_end=0.012, steps_offset=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--model", default="motia", choices=KNOWN, metavar="NAME", help="whose networks")
    parser.add_argument("--size", type=size, default=(256, 256), metavar="WxH", help="height and width")
    parser.add_argument("--frames", type=count, default=16, metavar="N", help="of the clip")
    parser.add_argument("--remat", default="none,all", metavar="A,B", help=f"of {', '.join(REMAT)}")
    parser.add_argument("--trace", action="store_true", help="compile nothing")
    parser.add_argument("--steps", type=int, default=0, metavar="N", help="run so many")
    arguments = parser.parse_args()
    configs = KNOWN[arguments.model]
    for name in ("unet", "controlnet", "vae", "text"):
        cls, _ = COMPONENTS[name]
        total = sum(math.prod(x.shape) for x in parameters.shapes(cls, configs[name]).values())
        print(f"{name:12} {total / 1e6:8.1f} M parameters")
    fit = prepared(configs, arguments.size, arguments.frames, arguments.remat.split(",")[0])
    print(f"{'LoRA':12} {sum(x.size for x in fit.updates.values()) / 1e6:8.3f} M parameters")
    for policy in arguments.remat.split(","):
        fit = prepared(configs, arguments.size, arguments.frames, policy)
        print(f"remat {policy:8} {kept_bytes(fit) / 1e9:6.2f} GB kept for the backward pass", flush=True)
        if arguments.trace:
            continue
        begin = time.monotonic()
        call = fit.call()
        traced = call.function.trace(*call.arguments, **call.static)
        program = traced.lower().compile(None if arguments.steps else _HASTY)
        memory = program.memory_analysis()
        print(
            f"remat {policy:8} {memory.temp_size_in_bytes / 1e9:6.2f} GB beside parameters of "
            f"{memory.argument_size_in_bytes / 1e9:.2f} GB (compiled in {time.monotonic() - begin:.0f} s)",
            flush=True,
        )
        if arguments.steps:
            print(f"remat {policy:8} {seconds(program, call, arguments.steps):6.1f} s a step", flush=True)


def prepared(configs: Any, size: tuple[int, int], frames: int, policy: str) -> Adaptation:
    """The fit to a clip of so many frames, its networks without numbers."""
    networks = {name: parameters.abstract(COMPONENTS[name][0], configs[name]) for name in ("unet", "controlnet")}
    cell, text = configs["vae"].downsampling, configs["text"]
    cells = tuple(side // cell for side in size)
    shape = jax.ShapeDtypeStruct((1, text.max_position_embeddings, text.hidden_size), jnp.float32)
    return Adaptation(
        name="bench",
        loss=NoiseLoss(SCHEDULE, policy),
        updates=first_updates(networks["unet"], 0),
        frozen={**networks, "text": shape},
        shapes={
            "latents": jax.ShapeDtypeStruct((1, frames, *cells, configs["vae"].latent_channels), np.float32),
            "pictures": jax.ShapeDtypeStruct((1, frames, *size, 3), np.float32),
        },
        steps=1,
    )


def kept_bytes(fit: Adaptation) -> int:
    """What a step has between its forward and its backward pass, beside parameters."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    updates = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in fit.updates.items()}

    def kept(updates, frozen, batch, key):
        return jax.vjp(lambda updates: fit.loss(updates, frozen, batch, key), updates)[1]

    parameters = {x.shape for x in jax.tree.leaves((updates, fit.frozen))}
    leaves = jax.tree.leaves(jax.eval_shape(kept, updates, fit.frozen, dict(fit.shapes), key))
    return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves if x.shape not in parameters)


def seconds(program: Any, call: Any, steps: int) -> float:
    """Of a step, the first one not counted."""
    state, *others, key = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype) if _is_shape(x) else x, call.arguments)
    times = []
    for _ in range(steps + 1):
        begin = time.monotonic()
        state, loss = program(state, *others, key)
        loss.block_until_ready()
        times.append(time.monotonic() - begin)
    return min(times[1:])


def _is_shape(x: Any) -> bool:
    return isinstance(x, jax.ShapeDtypeStruct)


if __name__ == "__main__":
    main()
