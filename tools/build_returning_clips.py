"""Clips whose camera goes and comes back, out of the records of `build_tiny_clips.py`: for the ablation.

    python tools/build_returning_clips.py data/96x96 data/72x128 data/128x72 --out data/returning
    gp-jax evaluate --protocol m3ddm-96 --dataset folder --data data/returning/clips --output results

Of panoramas and photos under a moving camera, those are taken whose camera goes at least a quarter of the frame's width
from side to side, and of their frames the square in the middle. Every second frame is played forwards and then
backwards, which is a path that a camera can take, since the scene stands still: whatever leaves the frame returns to
it, and what lies beyond the border of one frame is seen in others.

The new folder holds records, with the splits that the clips had, and `clips/NAME/`: the frames of those clips of the
validation split whose cameras go farthest, as a data set to evaluate on.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cv2
import jobs
import numpy as np
from PIL import Image
from rich.progress import track

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.cli.arguments import count as positive
from gp_jax.data.clips import RecordFolder, pack_clip
from gp_jax.data.shards import begin, finish, shard_names, write_shard
from gp_jax.errors import UserError
from gp_jax.files import replacing_folder
from gp_jax.flow.camera import drift

KINDS = ("panorama", "photo")
LEAST = 1 / 4  # of the frame's width


class Returning(NamedTuple):
    """A clip there and back: [2 * ceil(T / 2) - 1, S, S, 3] uint8, and how far its camera goes, in widths."""

    key: str
    travel: float
    frames: np.ndarray


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("records", type=Path, nargs="+", help="folders that build_tiny_clips.py made")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--size", type=positive, default=64, help="pixels per side")
    parser.add_argument("--clips", type=positive, default=24, help="of the data set")
    return parser.parse_args()


def main(arguments: argparse.Namespace) -> None:
    """Writes the new folder, whole or not at all."""
    if len({path.resolve() for path in arguments.records}) < len(arguments.records):
        raise UserError("a folder of records is given twice: give each once")
    size = (arguments.size, arguments.size)
    with replacing_folder(arguments.out, overwrite=False) as building:
        begin(building, {"size": size, "records": [path.name for path in arguments.records]})
        shards = {split: shard_names(split, 1) for split in ("train", "validation")}
        for split, (name,) in shards.items():
            clips = [clip for path in arguments.records for clip in returning(RecordFolder(path, split), size)]
            if not clips:
                told = " and ".join(map(str, arguments.records))
                raise UserError(f"no {split} clip of {told} has a camera that moves so over a still scene: build more")
            packed = (pack_clip(clip.frames, {"key": clip.key, "kind": "returning"}, "png") for clip in clips)
            write_shard(building / name, packed, {})
            print(f"{split}: {len(clips)} clips")
        finish(building, shards, {"format": "clips", "size": size})
        for clip in sorted(clips, key=lambda clip: -clip.travel)[: arguments.clips]:
            folder = building / "clips" / clip.key
            folder.mkdir(parents=True)
            for index, frame in enumerate(clip.frames):  # not as JPEG, which blurs the colours of frames so small
                Image.fromarray(frame).save(folder / f"{index:05}.png")


def returning(records: RecordFolder, size: tuple[int, int]) -> Iterator[Returning]:
    """The clips that qualify, at `size`."""
    for clip in track(map(records.__getitem__, range(len(records))), records.folder.name, total=len(records)):
        if clip.facts.get("kind") not in KINDS:
            continue
        frames = clip.read(range(0, clip.num_frames, 2))
        height, width = frames.shape[1:3]
        travel = np.ptp(drift(frames)[:, 0]) / width
        if travel < LEAST:
            continue
        top, left = (height - min(height, width)) // 2, (width - min(height, width)) // 2
        square = frames[:, top : height - top, left : width - left]
        there = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in square])
        key = f"{clip.facts['kind']}-{height}x{width}-{clip.key}"
        yield Returning(key, travel, np.concatenate([there, there[-2::-1]]))


if __name__ == "__main__":
    jobs.run(main, parse())
