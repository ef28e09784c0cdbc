"""What a training step costs, told by its compiled program: memory, FLOPs, and what devices send each other.

    run = prepare(load_config("configs/sd2.py:keyframes"), make_mesh("fsdp=8"))
    budget = count(run)
    budget.state, budget.collectives["all-gather"].bytes

No parameter is made and nothing is computed, so the step of a pod can be looked at on a laptop. All numbers are those
of one device. XLA for CPUs computes bfloat16 as float32 and sums gradients whole before each device takes its share;
for what a TPU needs, compile for one (`gp-jax bench --on`).
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from gp_jax.errors import UserError
from gp_jax.fit.state import placed
from gp_jax.fit.step import batch_shardings, lower_step
from gp_jax.geometry import Canvas
from gp_jax.memory import device_bytes, require
from gp_jax.parallel import parameter_shardings
from gp_jax.training.config import STAGES
from gp_jax.training.setup import Run
from gp_jax.training.speed import flops_of

# Of XLA for CPUs; they change the machine code only.
_HASTY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
TEXT_TOKENS = 77  # CLIP's
_PATCHES = 256  # of precomputed features: 16 x 16, ViT-L/14 and ViT-H/14 at 224 pixels


@dataclasses.dataclass
class Traffic:
    """Collectives of one kind: how many a step runs, and the bytes that they give, all together and the largest."""

    count: int = 0
    bytes: int = 0
    largest: int = 0


@dataclasses.dataclass(frozen=True)
class Budget:
    """Of one device, for one step.

    Attributes:
      state: bytes of parameters, averages and moments.
      inputs: bytes of the batch and of parameters that are not trained.
      temporaries: bytes of activations, gradients and all else that lives within the step.
      flops: floating-point operations as XLA counts them, what remat computes again among them.
      collectives: "all-gather" and the like -> traffic.
    """

    state: int
    inputs: int
    temporaries: int
    flops: float
    collectives: dict[str, Traffic]

    @classmethod
    def of(cls, run: Run, program: jax.stages.Compiled) -> "Budget":
        """The budget of a step compiled for `run`."""
        memory, state = program.memory_analysis(), bytes_on_device(run.state)
        assert memory is not None
        return cls(
            state=state,
            inputs=memory.argument_size_in_bytes - state,
            temporaries=memory.temp_size_in_bytes,
            flops=run.config.microbatches * flops_of(program),
            collectives=collectives(program.as_text() or ""),
        )

    def traffic(self, *kinds: str) -> int:
        """Bytes that collectives of some kinds give; without a kind, of all."""
        return sum(self.collectives[kind].bytes for kind in kinds or self.collectives if kind in self.collectives)

    @property
    def memory(self) -> int:
        """Bytes in all; the state is donated, so that it is there once."""
        return self.state + self.inputs + self.temporaries


def count(run: Run) -> Budget:
    """The budget of a run whose step is compiled for this alone: with less effort than one that is to be fast."""
    on_cpu = run.mesh.devices.flat[0].platform == "cpu"
    return Budget.of(run, lower(run, batch_shapes(run)).compile(_HASTY if on_cpu else None))


def check_memory(run: Run, batch: dict[str, jax.ShapeDtypeStruct], batches: int = 1) -> None:
    """Raises UserError where state, gradients, other parameters and so many batches alone are more than there is."""
    gradients = {name: run.state["params"][name] for name in run.networks.multipliers}
    needed = bytes_on_device([run.state, gradients, frozen_shapes(run)])
    needed += batches * bytes_on_device(placed(batch, batch_shardings(batch, run.mesh)))
    device = jax.local_devices()[0]
    if device.platform == "cpu":  # they share the machine's
        needed *= len(jax.local_devices())
    what = f"a step of {run.config.batch_size} segments" + f", with {batches} batches for validation" * (batches > 1)
    require(needed, what, device_bytes(device))


def lower(run: Run, batch: dict[str, jax.ShapeDtypeStruct]) -> jax.stages.Lowered:
    """The step for batches of a shape, ready to be compiled."""
    return lower_step(run.step, run.state, frozen_shapes(run), batch, run.mesh)


def frozen_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Parameters that the step only reads, where they are to lie."""
    shapes = run.networks.shapes_of(run.networks.frozen)
    return placed(shapes, parameter_shardings(shapes, run.mesh))


def batch_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch that the configuration asks for, without its data: with text, and frames of `data.size`, else as
    square as whole latents allow, of about the native area."""
    config, data = run.config, run.config.data
    rows, length, seen = config.batch_size, data.segment_frames, data.feature_frames
    native = Canvas(1, 1, 0, 0, 1, 1).native(run.settings.native_area, run.multiple)
    size = data.size or (native.height, native.width)
    if any(side % run.multiple for side in size):
        raise UserError(f"frames of {size[1]}x{size[0]} pixels are no whole latents of {run.multiple} pixels a side")
    cells = tuple(side // data.downsampling for side in size)
    patches = (data.view_size // data.view_patch) ** 2 if data.view_patch else _PATCHES
    configs, denoiser = run.networks.configs, STAGES[config.stage].denoiser
    extractor = configs.get("global_tokens")
    shapes = {
        "frames": (length,),
        "known": (length,),
        "pixel_mask": size,
        "latent_mask": cells,
    }
    if data.precomputed:
        shapes |= dict.fromkeys(("latents", "masked_latents"), (length, *cells, configs[denoiser].out_channels))
    else:
        shapes["pixels"] = (length, *size, 3)
    if extractor:
        shapes |= {"positions": (seen, patches, 2), "times": (seen,), "valid": (seen,)}
        if data.precomputed:
            shapes["features"] = (seen, patches, extractor.feature_width)
        else:
            shapes["views"] = (seen, data.view_size, data.view_size, 3)
    if data.global_frames:
        shapes |= {"clip": (data.global_frames, *size, 3), "clip_hidden": (data.global_frames,), "rate": ()}
    if data.text:
        shapes["text"] = (TEXT_TOKENS, configs[denoiser].cross_attention_dim)
    return {
        name: jax.ShapeDtypeStruct((rows, *shape), _DTYPES.get(name, jnp.float32)) for name, shape in shapes.items()
    }


_HALF = dict.fromkeys(("latents", "masked_latents", "features", "text"), jnp.float16)
_UINT8 = dict.fromkeys(("pixels", "views", "clip"), jnp.uint8)
_DTYPES = {"frames": jnp.int32, "known": bool, "valid": bool, "clip_hidden": bool, **_UINT8, **_HALF}


def bytes_on_device(tree: Any) -> int:
    """Bytes of a tree of arrays, or of `ShapeDtypeStruct`s with shardings, on one device."""
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in jax.tree.leaves(tree))


def collectives(text: str) -> dict[str, Traffic]:
    """The collectives in a compiled program's text. What stands in the body of a loop is counted once."""
    found: dict[str, Traffic] = defaultdict(Traffic)
    for kind, size in _collectives(text):
        traffic = found[kind]
        traffic.count, traffic.bytes = traffic.count + 1, traffic.bytes + size
        traffic.largest = max(traffic.largest, size)
    return dict(found)


_COLLECTIVE = re.compile(
    r"= (?P<type>\(.*?\)|\S+) (?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)"
    r"(?P<start>-start)?\("
)
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "s64": 8, "u64": 8, "f64": 8}


def _collectives(text: str) -> Iterator[tuple[str, int]]:
    for match in _COLLECTIVE.finditer(text):
        sizes = [
            math.prod(map(int, filter(None, shape.split(",")))) * _BYTES.get(dtype, 4)
            for dtype, shape in re.findall(r"\b([a-z]+\d*)\[([\d,]*)\]", match["type"])
        ]
        # Begun apart from its end, it names what goes in before what comes out.
        before = match["start"] and match["kind"] in ("all-gather", "collective-permute")
        yield match["kind"], max(sizes) if before else sum(sizes)
