"""How fast a step is, in numbers that can be compared: FLOP/s, and their share of what the device could do (MFU).

FLOPs are XLA's own count of the compiled step. It counts the body of a loop once; a loop over microbatches is made up
for here, the loop of a frozen autoencoder over frames is not, so that the count is low where latents are not
precomputed. What remat computes again is counted as work.
"""

import time
from collections.abc import Sequence

import jax

# Dense bfloat16 FLOP/s of one device by its `device_kind`, from the makers' data sheets.
PEAK_FLOPS = {
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


class Clock:
    """Takes the time of steps.

    Args:
      programs: compiled steps, which take turns.
      microbatches: parts of a batch.
    """

    def __init__(self, programs: Sequence[jax.stages.Compiled], microbatches: int):
        self._flops = microbatches * sum(map(flops_of, programs)) / max(1, len(programs))
        self._since, self._steps = time.monotonic(), 0

    def tick(self) -> None:
        """A step was made."""
        self._steps += 1

    def read(self) -> dict[str, float]:
        """Means since the last call, over all devices, for the log.

        No `mfu` for a device whose peak is not in the table, and no `peak_bytes` where the device does not tell.
        """
        now = time.monotonic()
        seconds = (now - self._since) / self._steps
        self._since, self._steps = now, 0
        rate = self._flops / seconds
        values = {"seconds_per_step": seconds, "flops_per_second": rate * jax.device_count()}
        device = jax.local_devices()[0]
        if peak := PEAK_FLOPS.get(device.device_kind):
            values["mfu"] = rate / peak
        if used := (device.memory_stats() or {}).get("peak_bytes_in_use"):
            values["peak_bytes"] = used
        return values


def flops_of(program: jax.stages.Compiled) -> float:
    """FLOPs of a program on one device; 0 where XLA does not tell."""
    return float((program.cost_analysis() or {}).get("flops", 0.0))
