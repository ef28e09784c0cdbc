"""On which networks, sizes and devices something is measured, and what came out of it.

    run = prepare_case(config, devices, segments=2)          a run of the configuration, nothing of it in memory
    image_alone(config)                                      the configuration with its denoiser's image network only

Neither data nor a checkpoint is needed: weights and batches are random, and neither changes the cost.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from ml_collections import ConfigDict

from gp_jax.bench.measure import Times, flops_of_traced
from gp_jax.errors import UserError
from gp_jax.models.unet_config import UNetConfig
from gp_jax.parallel import make_mesh
from gp_jax.parallel.mesh import Device
from gp_jax.training.budget import Budget, bytes_on_device, collectives
from gp_jax.training.config import STAGES
from gp_jax.training.rules import check_fields
from gp_jax.training.setup import Run, prepare
from gp_jax.training.speed import PEAK_FLOPS, flops_of

_FSDP = 8  # devices over which a mesh that nobody asked for cuts the state; more of them stand side by side
_IMAGE = {"temporal": False, "window": None, "motion_modules": False, "global_tokens": False}


@dataclasses.dataclass(frozen=True)
class Row:
    """Of one device.

    Attributes:
      run: what was compiled.
      budget: the counts of the compiled program.
      model_flops: FLOPs of the networks in a call.
      frames: that a call makes or learns from.
      compile_seconds: None where it is not known.
      times: of calls; None where none was run.
      peak_bytes: the most memory in use at any time; None where the device does not tell.
      part: of the network, where it is not the whole.
      again: makes `in_a_row` calls once more.
    """

    run: Run
    budget: Budget
    model_flops: float
    frames: float
    compile_seconds: float | None = None
    times: Times | None = None
    peak_bytes: int | None = None
    part: str = ""
    again: Callable[[], Any] | None = None
    in_a_row: int = 1

    @property
    def device(self) -> str:
        """As makers call it."""
        return self.run.mesh.devices.flat[0].device_kind


def budget_of(program: jax.stages.Compiled, parameters: Mapping[str, jax.ShapeDtypeStruct]) -> Budget:
    """Of a program that takes parameters and other arrays, and changes neither."""
    memory, state = program.memory_analysis(), bytes_on_device(parameters)
    assert memory is not None
    return Budget(
        state=state,
        inputs=memory.argument_size_in_bytes - state,
        temporaries=memory.temp_size_in_bytes,
        flops=flops_of(program),
        collectives=collectives(program.as_text() or ""),
    )


def mfu(flops: float, seconds: float, device: str) -> float | None:
    """Share of what a device could do in bfloat16; None where its peak is not in the table."""
    peak = PEAK_FLOPS.get(device)
    return flops / seconds / peak if peak else None


def prepare_case(
    config: ConfigDict, devices: Sequence[Device], *, segments: int, mesh: str = "", attention: str = ""
) -> Run:
    """The run of a configuration on other devices, without accumulation.

    Args:
      config: its mesh, batch size and microbatches do not count.
      devices: here or not.
      segments: per call, along each slice of the mesh's axes data and fsdp.
      mesh: see `make_mesh`; by default the state is cut over 8 devices.
      attention: one of `attention.NAMES`, by default the configuration's.
    """
    cut = math.gcd(len(devices), _FSDP)
    check_fields(config)
    made = make_mesh(mesh or f"data={len(devices) // cut},fsdp={cut}", devices)
    rows = segments * made.shape["data"] * made.shape["fsdp"]
    chosen = config.copy_and_resolve_references()
    chosen.update({"attention": attention or config.attention, "microbatches": 1, "batch_size": rows})
    return prepare(chosen, made)


def image_alone(config: ConfigDict) -> ConfigDict:
    """The configuration with the image network within its denoiser: its frames are a batch of images to it.

    Raises:
      UserError: the stage has no UNet.
    """
    denoiser = STAGES[config.stage].denoiser
    if denoiser not in STAGES[config.stage].networks or denoiser == "m3ddm":
        raise UserError(f"the stage {config.stage} has no UNet, whose image network could be taken alone")
    chosen = config.copy_and_resolve_references()
    with chosen.unlocked():
        # A stage that is not the file's has no section there.
        chosen.changes[denoiser] = {**chosen.changes.get(denoiser, {}), **_IMAGE}
        # A pattern that decides over nothing is refused, so one takes the place of all: nothing else is trained.
        others = config.init_from or any(fields for name, fields in config.networks.items() if name != denoiser)
        chosen.optimizer.groups = ((rf"(?!{denoiser}\.)", 0.0),) if others else ()
    return chosen


def model_flops(config: ConfigDict, trace: Callable[[Run], jax.stages.Traced]) -> float:
    """FLOPs of one segment: those of matrix products and convolutions of what `trace` makes of it.

    What remat computes again is not among them, and attention is that of the einsum, whatever kernel is used.
    """
    lone = config.copy_and_resolve_references()
    lone.update({"attention": "einsum", "remat": "none", "batch_size": 1, "microbatches": 1})
    return float(flops_of_traced(trace(prepare(lone, make_mesh(None, jax.devices()[:1])))))


def unet_of(run: Run) -> UNetConfig:
    """The configuration's denoiser; raises UserError where it is no UNet."""
    config = run.networks.configs.get(STAGES[run.config.stage].denoiser)
    if not isinstance(config, UNetConfig):
        raise UserError(f"the stage {run.config.stage} has no UNet, and only that is known in torch")
    return config
