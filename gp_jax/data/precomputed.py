"""What training does not have to compute again: latents, features and text embeddings, in files beside the records.

    records/precomputed/latents/    a manifest and shards, as `gp_jax.data.shards` makes them
    records/precomputed/features/   the same; each shard belongs to one of the records
    records/precomputed/text/

A vision transformer mixes all that it sees, so features can't be cut to a canvas afterwards. Hence the files fix, for
each clip, V variants: a canvas, whether the clip is mirrored, and which frames the tower sees. `variant` draws them
from the clip's key, so that features and latents agree although they were made apart. Record k of a split has its
variants at k * V to k * V + V - 1; the text at k.

A manifest says which network made its files (`model_hash`), and training with another one is refused.
"""

import dataclasses
import hashlib
import json
import math
import zlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.checkpoint import parameters
from gp_jax.data.config import DataConfig
from gp_jax.data.examples import Example, draw_indices, sample_frames, segment, view_places
from gp_jax.data.shards import MANIFEST_FILE, SHOWN, open_shards, read_manifest, sha256, unpack
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas, check_ratio_range, sample_canvas
from gp_jax.seeds import check_seed

FOLDER = "precomputed"
VARIED = ("latents", "features")  # of each variant; the text is the same for all


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How variants are drawn; the fields mean what they mean in `DataConfig`."""

    variants: int
    feature_frames: int
    ratio_range: tuple[float, float] = (0.15, 0.6)
    directions: tuple[str, ...] = ()
    flip: bool = True
    seed: int = 0

    def __post_init__(self):
        check_seed(self.seed)
        check_ratio_range(self.ratio_range)


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to look at a clip.

    Attributes:
      canvas: which part of it is observed, after mirroring.
      flip: whether it is mirrored.
      seen: frames that the vision tower sees, increasing.
    """

    canvas: Canvas
    flip: bool
    seen: np.ndarray

    def facts(self) -> dict[str, Any]:
        """What its records say of it."""
        return {"canvas": dataclasses.astuple(self.canvas), "flip": self.flip}


def variant(recipe: Recipe, key: str, number: int, frames: int, size: tuple[int, int]) -> Variant:
    """Variant `number` of the clip `key`, which has so many frames of `size` (height, width)."""
    rng = np.random.default_rng([recipe.seed, zlib.crc32(key.encode()), number])
    canvas = sample_canvas(rng, *size, recipe.ratio_range, recipe.directions)
    return Variant(canvas, recipe.flip and bool(rng.random() < 0.5), draw_indices(rng, frames, recipe.feature_frames))


def model_hash(network: Any) -> str:
    """The sha256 of a network: of its config, and of its parameters in float32 by name, however they are stored."""
    digest = hashlib.sha256(json.dumps(network.config.to_json(), sort_keys=True).encode())
    for name, tensor in sorted(parameters.flatten(network).items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(np.ascontiguousarray(np.asarray(tensor, np.float32)).data)
    return digest.hexdigest()


def records_hash(folder: Path) -> str:
    """What a folder of records is told by."""
    return sha256(folder / MANIFEST_FILE)


class Precomputed:
    """The precomputed files of one split of a folder of records.

    Args:
      folder: of the records.
      split: of them.
      parts: which files are needed: "latents", "features", "text".
      models: as `DataConfig.models`.

    Raises:
      UserError: a file is missing, was made by another network or from other records, or latents and features were
        made for other canvases.
    """

    def __init__(self, folder: Path, split: str, parts: Collection[str], models: Mapping[str, str]):
        self.folder, self._split = folder, split
        self._records = {}
        recipes = {}
        for part in parts:
            place = folder / FOLDER / part
            manifest = read_manifest(place, f"precompute.py {folder} {part} ({SHOWN})")
            if manifest["arguments"]["records"] != records_hash(folder):
                raise UserError(f"{place} was not made from the records of {folder} as they are now: make it again")
            if models.get(part, manifest["model"]) != manifest["model"]:
                raise UserError(
                    f"{place} was made by another network: its sha256 is {manifest['model']}, and training uses "
                    f"{models[part]}; precompute it again, or train with that network"
                )
            if part in VARIED:
                recipes[part] = manifest["arguments"]["plan"]
            if split not in manifest["shards"]:
                raise UserError(f"{place} has nothing of the split {split!r}: precompute it again")
            self._records[part] = open_shards(place, manifest["shards"][split])
        if len({json.dumps(recipe, sort_keys=True) for recipe in recipes.values()}) > 1:
            raise UserError(f"{folder}: latents and features were made for other canvases: make both in one call")
        self.recipe: Mapping[str, Any] = next(iter(recipes.values()), {})

    def __repr__(self) -> str:
        return f"Precomputed({str(self.folder)!r}, {self._split!r})"

    def text(self, index: int) -> np.ndarray:
        """[L, D] float16 of one record."""
        return self._read("text", index)[0]["text"]

    def example(self, index: int, rng: np.random.Generator, config: DataConfig) -> Example:
        """What `make_example` makes, of a variant that `rng` draws, with latents and features.

        Returns:
          Instead of pixels: latents and masked_latents [T, h, w, C] float16. Instead of views: features [F, P, D]
          float16, 0 where not valid.

        Raises:
          UserError: the record is broken, or shorter than a segment.
        """
        place = index * self.recipe["variants"] + int(rng.integers(self.recipe["variants"]))
        tensors, facts = self._read("latents", place)
        total, canvas = len(tensors["latents"]), Canvas(*facts["canvas"])
        frames, told = sample_frames(rng, total, config)
        example = segment(rng, told, canvas, config)
        example |= {name: tensors[name][frames] for name in ("latents", "masked_latents")}
        if config.feature_frames:
            tensors, _ = self._read("features", place)
            features, seen = tensors["features"], tensors["seen"]
            missing = config.feature_frames - len(seen)
            example["features"] = np.pad(features, ((0, missing), (0, 0), (0, 0)))
            grid = math.isqrt(features.shape[1])
            example |= view_places(canvas, seen, total, config.feature_frames, grid)
        return example

    def _read(self, part: str, place: int) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        try:
            tensors, facts = unpack(self._records[part][place])
        except (RuntimeError, UserError) as error:
            raise UserError(f"{part} {place}: {error}") from None
        if "broken" in facts:
            raise UserError(facts["broken"])
        return tensors, facts
