"""What makers publish of chips and of the links between them, and how long collectives take on them at best.

    link = CHIPS["h100"]
    seconds(CHIPS["h100"], Collective("all-reduce", "data", 2, 8, 600e6))     of two hosts of eight: 0 s near, 12 ms far

A group of `size` devices that lie `stride` apart is within one island (a host, a slice) or reaches over several. In an
island a ring gives each device all but its own share of the bytes at the speed of its links; between islands each
device takes part in a ring of its own, for its share of what its island has, and its island passes that on. Where each
device has something else for each other, as much goes to each of them.
"""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Chip:
    """Of one device.

    Attributes:
      name: as makers call it.
      peak: dense bfloat16 FLOP/s.
      memory, speed: bytes of its memory, and bytes/s to and from it.
      island: devices that are joined by the near links.
      near, far: bytes/s that one device sends, and at the same time receives, within an island and beyond it.
    """

    name: str
    peak: float
    memory: float
    speed: float
    island: int
    near: float
    far: float


# v5p: docs.cloud.google.com/tpu/docs/v5p: 459 TFLOP/s, 95 GiB at 2,765 GB/s, jobs of up to 6,144 chips in one slice,
# 1,200 GB/s of ICI both ways, over six links, of which a ring along one side of the torus has two; 50 Gbit/s of data
# center network for each chip.
# H100 and H200 SXM: NVIDIA's data sheets: 989 TFLOP/s, 80 GB at 3.35 TB/s and 141 GB at 4.8 TB/s, NVLink of 900 GB/s
# both ways; docs.nvidia.com/dgx-basepod, reference architecture, core components: a DGX H100 or H200 has eight of them
# and eight ConnectX-7, of up to 400 Gbit/s each.
CHIPS = {
    "v5p": Chip("TPU v5p", 459e12, 95 * 2**30, 2765e9, 6144, 200e9, 6.25e9),
    "h100": Chip("H100 SXM", 989e12, 80e9, 3.35e12, 8, 450e9, 50e9),
    "h200": Chip("H200 SXM", 989e12, 141e9, 4.8e12, 8, 450e9, 50e9),
}
_TURNS = {"all-gather": 1, "reduce-scatter": 1, "all-reduce": 2}  # of a ring; the last is one of each of the others


@dataclasses.dataclass(frozen=True)
class Collective:
    """One, or several alike.

    Attributes:
      kind: of `_TURNS`, or "all-to-all" or "collective-permute".
      axes: of the mesh, for people.
      size: devices of a group.
      stride: how far apart neighbours of a group are, in devices.
      bytes: what is whole behind a gather, and before a reduction; what a device has of that which goes to others.
    """

    kind: str
    axes: str
    size: int
    stride: int
    bytes: float

    def sent(self, island: int) -> tuple[float, float]:
        """Bytes that each device sends to others of its island, and beyond it."""
        inner = math.gcd(self.size, max(1, island // self.stride))
        outer = self.size // inner
        if self.kind == "all-to-all":
            return self.bytes * (inner - 1) / self.size, self.bytes * (1 - 1 / outer)
        if self.kind == "collective-permute":  # the slowest of them cross from one island to the next
            return (self.bytes, 0.0) if outer == 1 else (0.0, self.bytes)
        near, far = (inner - 1) / inner, (outer - 1) / outer / inner
        return _TURNS[self.kind] * self.bytes * near, _TURNS[self.kind] * self.bytes * far


def seconds(chip: Chip, collective: Collective) -> tuple[float, float]:
    """Over the near and over the far links, one after the other."""
    near, far = collective.sent(chip.island)
    return near / chip.near, far / chip.far
