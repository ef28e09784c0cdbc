"""Builds the data set that the embedded model is evaluated on: real clips in the layout of DAVIS 2017.

    python tools/build_test_clips.py --data ~/gp_test_data
    gp-jax evaluate --protocol m3ddm-256 --dataset davis --data ~/gp_test_data/davis --output results

The films ship inside packages (evaluation_packages.py) and are fetched as fetch_training_data.py fetches: by name,
version and checksum. They are cut into shots, faster ones than 30 frames per second are thinned, and of each shot come
one or two clips, the second where the shot is long enough for both. `~/gp_test_data/davis` gets `CREDITS.txt`,
`ImageSets/2017/val.txt` and `JPEGImages/480p/NAME/00000.jpg` ...; films lower than 480 pixels keep their size.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from evaluation_packages import PACKAGES
from fetch_training_data import credits_text, download, unpack
from films import decode
from jobs import run
from PIL import Image
from rich.progress import track

from gp_jax.cli.arguments import HelpFormatter, count
from gp_jax.data.shots import find_shots, thumbnails
from gp_jax.errors import UserError
from gp_jax.files import replacing_folder
from gp_jax.video import probe

HEIGHT, QUALITY = 480, 95
FASTEST = 30  # frames per second
LEAST = 16  # frames of a clip: FVD needs them


def parse() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder for archives, films and clips")
    parser.add_argument("--frames", type=count, default=48, help=f"length of a clip at most, {LEAST} or more")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Builds it."""
    if args.frames < LEAST:
        raise UserError(f"--frames {args.frames} is less than the {LEAST} that FVD needs: ask for more")
    target = args.data / "davis"
    if target.exists():
        raise UserError(f"{target} is there already: delete it to build it anew")

    entries = []
    for package in PACKAGES:
        entries += unpack(package, download(package, args.data / "downloads"), args.data / "films")
    (args.data / "cache").mkdir(exist_ok=True)
    names = []
    with replacing_folder(target, overwrite=False) as building:
        for entry in track(entries, "cutting"):
            path = args.data / "films" / entry["name"]
            for index, clip in enumerate(clips_of(path, args.data / "cache", args.frames)):
                names.append(f"{path.stem}-{index}")
                write(clip, building / "JPEGImages" / "480p" / names[-1])
        lists = building / "ImageSets" / "2017"
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("".join(f"{name}\n" for name in names))
        (lists / "train.txt").touch()  # nothing of it is for training
        (building / "CREDITS.txt").write_text(credits_text(entries))
    print(f"{target}: {len(names)} clips of {len(entries)} films")


def clips_of(path: Path, cache: Path, frames: int) -> Iterator[np.ndarray]:
    """Clips [T, H, W, 3] uint8 of a film, `LEAST` to `frames` frames long."""
    info = probe(path)
    film = decode(path, cache / f"{path.name}.npy", min(HEIGHT, info.height))
    film = film[:: -(-round(info.frame_rate) // FASTEST)]
    for start, stop in find_shots(thumbnails(film), LEAST):
        yield from (film[first : first + frames][: stop - first] for first in starts(start, stop, frames))


def starts(start: int, stop: int, frames: int) -> list[int]:
    """Where the clips of a shot begin: at its start, and at its end where that leaves two clips."""
    return [start, stop - frames] if stop - start >= 2 * frames else [start]


def write(clip: np.ndarray, folder: Path) -> None:
    """Writes a clip as 00000.jpg, 00001.jpg, ..."""
    folder.mkdir(parents=True)
    for index, frame in enumerate(clip):
        Image.fromarray(frame).save(folder / f"{index:05}.jpg", quality=QUALITY)


if __name__ == "__main__":
    run(main, parse())
