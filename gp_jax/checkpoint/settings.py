"""The settings of a checkpoint: its `config.json`, whose `method` says which method the checkpoint is of."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from gp_jax.diffusion.tables import SAMPLERS
from gp_jax.errors import UserError
from gp_jax.json_config import Foreign, one_of, read_fields, short, within


@dataclasses.dataclass(frozen=True)
class _OfMethod:
    """Reads and writes a dataclass of settings.

    Attributes:
      method: the name by which `--method` has it.
    """

    method: ClassVar[str]

    @classmethod
    def from_json(cls, config: Mapping[str, Any], what: str = "the checkpoint's config.json") -> Self:
        """Raises UserError, which says of `what`, where a key is missing, or cannot be meant."""
        fixed = {"format": ("gp_jax",), "method": (cls.method,)}
        return read_fields(cls, config, Foreign(fixed=fixed), what)

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {"format": "gp_jax", "method": self.method, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class Settings(_OfMethod):
    """GlobalPaint's.

    Attributes:
      native_area: pixels of a frame that the networks saw in training.
      segment_frames: T, frames that they denoise at once.
      feature_frames: frames, spread over the clip, from which global tokens are made.
      sampler, steps: how to sample by default.
      guidance, text_guidance: weights of global tokens and of the prompt by default.
    """

    method: ClassVar[str] = "globalpaint"

    native_area: int = within(dataclasses.MISSING, 64, 2048**2)
    segment_frames: int = within(dataclasses.MISSING, 3, 512)
    feature_frames: int = within(16, 1, 4096)
    sampler: str = one_of("ddim", SAMPLERS)
    steps: int = within(25, 1, 1000)
    guidance: float = within(1.0, -1000, 1000)
    text_guidance: float = within(7.5, -1000, 1000)


@dataclasses.dataclass(frozen=True)
class M3DDMSettings(_OfMethod):
    """M3DDM's; the defaults are the published ones.

    Attributes:
      native_area: pixels of a frame that the network saw in training.
      global_frames: frames, spread over the clip, that its global encoder reads.
      steps: of the sampler by default.
      guidance, local_guidance: weights of what the whole clip and of what a window shows by default.
    """

    method: ClassVar[str] = "m3ddm"

    native_area: int = within(256**2, 64, 2048**2)
    global_frames: int = within(16, 1, 4096)
    steps: int = within(50, 3, 1000)
    guidance: float = within(4.0, -1000, 1000)
    local_guidance: float = within(2.0, -1000, 1000)


@dataclasses.dataclass(frozen=True)
class MOTIASettings(_OfMethod):
    """MOTIA's; how it samples is no matter of the checkpoint but of who published the numbers, see its options.

    Attributes:
      native_area: pixels of a frame that the networks saw in training.
    """

    method: ClassVar[str] = "motia"

    native_area: int = within(512**2, 64, 2048**2)


# By the name of the method; a `config.json` that names none is GlobalPaint's.
SETTINGS: dict[str, type[_OfMethod]] = {cls.method: cls for cls in (Settings, M3DDMSettings, MOTIASettings)}


def read_settings(config: Mapping[str, Any]) -> Any:
    """The settings in a `config.json`, of the class of its method; raises UserError as their `from_json`."""
    name = config.get("method", Settings.method)
    if not isinstance(name, str) or name not in SETTINGS:
        raise UserError(f"the checkpoint's config.json: method is {short(name)}, none of {', '.join(SETTINGS)}")
    return SETTINGS[name].from_json(config)
