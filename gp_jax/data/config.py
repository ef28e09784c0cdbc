"""What a loader is asked for: the `data` section of a training configuration, under the same names."""

import dataclasses
from collections.abc import Mapping

from gp_jax.errors import UserError
from gp_jax.geometry import MASK_RULES, check_ratio_range
from gp_jax.json_config import naming
from gp_jax.seeds import check_seed

# Which frames of a segment count as complete, and which strides are drawn: names of the rules in examples.py.
KNOWN = ("none", "ends", "m3ddm")
SHORT = ("longest", "fewer")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which clips, and how segments are drawn from them.

    Attributes:
      records: folders, each of records (`tools/build_records.py`) or of video files. Frames of several sizes take
        turns, batch by batch.
      segment_frames: T, frames of a segment; 1 for images.
      strides: distances between neighbouring frames of a segment, drawn with equal chance.
      short: what comes in the place of a stride that a clip is too short for: the "longest" that fits, or one of the
        "fewer" strides that do, with equal chance.
      paces: factors of the frame numbers, drawn with equal chance: slow footage stands in for clips that are longer
        than the records.
      known: "ends" where the first and the last frame of a segment count as complete (interpolation), "none", or
        "m3ddm", which draws of none, of the ends and of each frame with a chance of a half.
      ratio_range, directions: of the sampled canvases, see `gp_jax.geometry.sample_canvas`; no directions: all.
      flip: whether half of the examples are mirrored.
      feature_frames: F, frames spread over the clip that the vision tower sees; 0: no views and no features.
      view_size, view_patch: pixels of the tower's input and of its patches, per side.
      global_frames: G, whole frames spread evenly over the clip, which M3DDM's global encoder reads, and the frame rate
        of the segment; 0: neither.
      downsampling: pixels per latent, per side.
      precomputed: latents and features in the place of pixels and views, as `tools/precompute.py` wrote them. Canvases,
        flips and feature frames are then those of the files.
      text: whether to add precomputed text embeddings.
      models: name of a part ("features", "latents", "text") -> the sha256 of the network that training uses; files of
        another network are refused. A part that is not named is not checked.
      size: (height, width) to which frames of video files are brought; records have a size of their own. On the command
        line also WIDTHxHEIGHT.
      workers: processes that read ahead; 0: threads of this process, which on small machines are faster.
      seed: of everything drawn.
      max_skipped: records that may turn out to be broken before the loader gives up.

    Raises:
      UserError: values that contradict each other.
    """

    records: tuple[str, ...]
    segment_frames: int
    strides: tuple[int, ...] = (1,)
    short: str = "longest"
    paces: tuple[int, ...] = (1,)
    known: str = "none"
    ratio_range: tuple[float, float] = (0.15, 0.6)
    directions: tuple[str, ...] = ()
    flip: bool = True
    feature_frames: int = 0
    view_size: int = 0
    view_patch: int = 0
    global_frames: int = 0
    downsampling: int = 8
    precomputed: bool = False
    text: bool = False
    models: Mapping[str, str] = dataclasses.field(default_factory=dict)
    size: tuple[int, int] | None = None
    workers: int = 0
    seed: int = 0
    max_skipped: int = 100

    def __post_init__(self):
        check_seed(self.seed)
        with naming("data configuration"):
            check_ratio_range(self.ratio_range)
        views = self.feature_frames and not self.precomputed
        wrong = {
            "records is empty: name at least one folder": not self.records or isinstance(self.records, str),
            "segment_frames, strides and paces start at 1": min(self.segment_frames, *self.strides, *self.paces) < 1,
            f"known is one of {', '.join(KNOWN)}": self.known not in KNOWN,
            f"short is one of {', '.join(SHORT)}": self.short not in SHORT,
            "global_frames needs segments of 2 frames": self.global_frames and self.segment_frames < 2,
            f"known={self.known!r} needs segments of 3 frames": self.known != "none" and self.segment_frames < 3,
            f"directions are of {', '.join(MASK_RULES)}": not set(self.directions) <= set(MASK_RULES),
            "view_size must be a multiple of view_patch": views
            and (self.view_patch < 1 or self.view_size < 1 or self.view_size % self.view_patch),
        }
        for sentence, is_wrong in wrong.items():
            if is_wrong:
                raise UserError(f"data configuration: {sentence}")
