"""The settings of a checkpoint: its `config.json`."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gp_jax.diffusion.samplers import SAMPLERS
from gp_jax.json_config import Foreign, one_of, read_fields, within


@dataclasses.dataclass(frozen=True)
class Settings:
    """The `config.json` of a checkpoint folder.

    Attributes:
      native_area: pixels of a frame that the networks saw in training.
      segment_frames: T, frames that they denoise at once.
      feature_frames: frames, spread over the clip, from which global tokens are made.
      sampler, steps: how to sample by default.
      guidance, text_guidance: weights of global tokens and of the prompt by default.
    """

    native_area: int = within(dataclasses.MISSING, 64, 2048**2)
    segment_frames: int = within(dataclasses.MISSING, 3, 512)
    feature_frames: int = within(16, 1, 4096)
    sampler: str = one_of("ddim", SAMPLERS)
    steps: int = within(25, 1, 1000)
    guidance: float = within(1.0, -1000, 1000)
    text_guidance: float = within(7.5, -1000, 1000)

    @classmethod
    def from_json(cls, config: Mapping[str, Any]) -> "Settings":
        """Raises UserError where a key is missing, or cannot be meant."""
        return read_fields(cls, config, Foreign(fixed={"format": ("gp_jax",)}), "the checkpoint's config.json")

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"format": "gp_jax", **dataclasses.asdict(self)}
