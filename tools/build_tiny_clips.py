"""Cuts and renders the training clips of the embedded model from the files of `fetch_training_data.py`.

    python tools/build_tiny_clips.py --data ~/gp_data --out ~/gp_data/records --clips 500

writes, for each of three shapes of equal area, the records of 500 clips of 57 frames (8 frames at a stride of 1, 2, 4
or 8) to `<height>x<width>/`, as `build_records.py` does for films. What is known of a clip: kind, source, licence and
the shot's frames.

Four kinds of clips, in the shares of `SHARES`: shots of a film, panoramas and photos under a moving camera, and
machine-made video. Whole shots and pictures are held out for validation, so that no clip of one is in both splits.
Every clip has a random generator of its own, seeded by `--seed`, shape and number: the result does not depend on the
number of processes. A build that was interrupted goes on with the shards that are missing.
"""

import argparse
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import av
import cv2
import numpy as np
from camera_paths import blob_layer, fit_path, render_panorama, render_windows, window_path
from films import decode
from rich.progress import track

from gp_jax.cli.arguments import HelpFormatter, seed
from gp_jax.cli.arguments import count as positive
from gp_jax.cli.engine import Done, Engine, share_out
from gp_jax.data.clips import pack_clip
from gp_jax.data.shards import begin, finish, shard_names, write_shard
from gp_jax.data.shots import find_shots, thumbnails

FRAMES = 57
CLIPS_PER_SHARD = 32
SHAPES = ((72, 128), (128, 72), (96, 96))
SHARES = {"film": 0.35, "panorama": 0.31, "photo": 0.22, "generated": 0.12}
CACHE_HEIGHT = {"film": 216, "generated": 216}
HELD_OUT = 0.06
END_TITLES = {"moviepy-bbb.mp4": (11700, 13940)}


@dataclass(frozen=True)
class Source:
    """A picture, or one shot of a film (`start` to `stop`; a picture has 0 and 0)."""

    name: str
    kind: str
    licence: str
    path: str
    start: int = 0
    stop: int = 0
    split: str = "train"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder that fetch_training_data.py filled")
    parser.add_argument("--out", type=Path, required=True, help="folder for the records")
    parser.add_argument("--clips", type=int, default=500, help="clips per shape")
    parser.add_argument("--seed", type=seed, default=0, help="of all that is drawn")
    parser.add_argument("--processes", type=positive, default=2, help="that work at the same time")
    arguments = parser.parse_args()
    sources = hold_out(find_sources(arguments.data), arguments.seed)
    for size in SHAPES:
        build(sources, size, arguments.clips, arguments.seed, arguments.out, arguments.processes)


def find_sources(data: Path) -> list[Source]:
    """Every picture, and every usable shot of every film (decoded on the first call, into `data/cache`)."""
    (data / "cache").mkdir(exist_ok=True)
    sources = []
    entries = json.loads((data / "sources.json").read_text())
    for entry in track(entries, "Looking for shots"):
        make = partial(Source, kind=entry["kind"], licence=entry["licence"])
        path = data / "sources" / entry["name"]
        if entry["kind"] not in CACHE_HEIGHT:
            sources.append(make(entry["name"], path=str(path)))
            continue
        cache = data / "cache" / f"{entry['name']}.npy"
        film = decode(path, cache, CACHE_HEIGHT[entry["kind"]])
        titles = END_TITLES.get(entry["name"], (0, 0))
        for start, stop in find_shots(thumbnails(film), FRAMES):
            if start < titles[1] and stop > titles[0]:
                continue
            sources.append(make(f"{entry['name']}:{start}-{stop}", path=str(cache), start=start, stop=stop))
    return sources


def hold_out(sources: list[Source], seed: int, share: float = HELD_OUT) -> list[Source]:
    """Moves some sources of every kind to validation: pictures at random, shots as a run of neighbours.

    Shots next to each other often show the same scene, and would tell the training what validation asks for.
    """
    result = []
    for kind in SHARES:
        members = [source for source in sources if source.kind == kind]
        count = min(max(2, round(share * len(members))), len(members) // 2)
        rng = np.random.default_rng([seed, zlib.crc32(kind.encode())])
        if kind in CACHE_HEIGHT:
            held = np.arange(count) + rng.integers(0, len(members) - count + 1)
        else:
            held = rng.permutation(len(members))[:count]
        result += [replace(m, split="validation" if i in held else "train") for i, m in enumerate(members)]
    return result


def build(sources: list[Source], size: tuple[int, int], clips: int, seed: int, out: Path, processes: int) -> None:
    """The records of one shape."""
    folder = out / f"{size[0]}x{size[1]}"
    begin(folder, {"size": size, "clips": clips, "seed": seed, "sources": [source.name for source in sources]})
    chosen = list(enumerate(choose(sources, size, clips, seed)))
    splits = {split: [c for c in chosen if c[1].split == split] for split in ("train", "validation")}
    shards = {split: shard_names(split, -(-len(members) // CLIPS_PER_SHARD)) for split, members in splits.items()}
    photos = tuple(source.path for source in sources if source.kind == "photo" and source.split == "train")
    jobs = [
        (folder / name, splits[split][index :: len(shards[split])])
        for split in shards
        for index, name in enumerate(shards[split])
    ]
    work = partial(_build_shard, size=size, seed=seed, photos=photos)
    share_out(work, jobs, Engine(processes), f"clips of {folder.name}", len(chosen))
    finish(folder, shards, {"format": "clips", "size": size})


def choose(sources: list[Source], size: tuple[int, int], clips: int, seed: int) -> list[Source]:
    """The source of every clip: kinds in their shares, every source of a kind equally often, in random order."""
    rng = np.random.default_rng([seed, *size])
    kinds = [kind for kind in SHARES if any(source.kind == kind for source in sources)]
    bounds = np.cumsum([SHARES[kind] for kind in kinds])
    counts = np.diff(np.round(clips * bounds / bounds[-1]).astype(int), prepend=0)
    chosen = []
    for kind, count in zip(kinds, counts):
        members = [source for source in sources if source.kind == kind]
        rounds = [rng.permutation(len(members)) for _ in range(-(-count // len(members)))]
        chosen += [members[index] for index in np.concatenate(rounds)[:count]] if count else []
    return [chosen[index] for index in rng.permutation(clips)]


def make_clip(
    source: Source, rng: np.random.Generator, size: tuple[int, int], photos: tuple[str, ...]
) -> tuple[np.ndarray, dict]:
    """One clip [57, H, W, 3], uint8, and what its entry in the list says beyond its source."""
    aspect = size[1] / size[0]
    if source.kind == "panorama":
        return render_panorama(expose(read_panorama(source.path), rng), rng, FRAMES, size), {}
    if source.kind == "photo":
        photo = read_photo(source.path)
        path = fit_path(window_path(rng, FRAMES, aspect), photo.shape, rng, least_width=1.2 * size[1], least_fill=0.3)
        layer = blob_layer(rng, read_photo(rng.choice(photos)), FRAMES, size) if rng.random() < 0.3 else None
        return render_windows([photo] * FRAMES, path, size, layer), {"layers": 1 if layer is None else 2}
    film = np.load(source.path, mmap_mode="r")
    start = int(rng.integers(source.start, source.stop - FRAMES + 1))
    frames = film[start : start + FRAMES]
    motion = float(rng.choice([0.0, rng.uniform(0.1, 0.6)]))
    path = fit_path(window_path(rng, FRAMES, aspect, motion), film.shape[1:], rng, least_width=size[1], least_fill=0.6)
    return render_windows(frames, path, size), {"first_frame": start, "camera_added": motion > 0}


@lru_cache(maxsize=8)
def read_photo(path: str) -> np.ndarray:
    """[h, w, 3] uint8, RGB."""
    return cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@lru_cache(maxsize=32)
def read_panorama(path: str) -> np.ndarray:
    """[h, w, 3] float32, RGB, linear light, from an OpenEXR file."""
    with av.open(path, format="exr_pipe") as container:
        frame = next(container.decode(video=0))
    kind = np.float16 if "f16" in frame.format.name else np.float32
    green, blue, red = (
        np.frombuffer(plane, kind).reshape(frame.height, -1)[:, : frame.width] for plane in frame.planes
    )
    radiance = np.stack([red, green, blue], axis=-1).astype(np.float32)
    # Lossy compression rings around lamps and the sun, below zero, over blocks of 8 pixels: fill those from around.
    brightest = radiance.max(axis=-1)
    by_a_lamp = cv2.dilate(brightest, np.ones((17, 17), np.uint8)) > 8 * np.median(brightest)
    broken = cv2.dilate((by_a_lamp & (radiance <= 0).any(axis=-1)).astype(np.uint8), np.ones((3, 3), np.uint8))
    logarithm = np.log(np.maximum(radiance, 1e-4))
    filled = [cv2.inpaint(channel, broken, 3, cv2.INPAINT_TELEA) for channel in cv2.split(logarithm)]
    return np.exp(np.stack(filled, axis=-1))


def expose(radiance: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A photograph [h, w, 3] uint8 of linear light: random exposure around the scene's mean, filmic curve, sRGB-like.

    The curve is Narkowicz's fit of the ACES filmic curve (2016, "ACES Filmic Tone Mapping Curve").
    """
    light = np.maximum(radiance, 0.0)
    horizon = light[light.shape[0] // 4 : -light.shape[0] // 4] @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    mean = np.exp(np.log(np.maximum(horizon, 1e-4)).mean())
    light = light * np.float32(0.18 * 2 ** rng.uniform(-0.7, 0.7) / mean)
    curve = np.clip(light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14), 0, 1)
    return (255 * curve ** (1 / 2.2)).round().astype(np.uint8)


def _build_shard(
    path: Path,
    members: list[tuple[int, Source]],
    done: Done,
    *,
    size: tuple[int, int],
    seed: int,
    photos: tuple[str, ...],
) -> None:
    def records() -> Iterator[bytes]:
        for number, (index, source) in enumerate(members):
            yield _record(index, source, size, seed, photos)
            done(number + 1)

    cv2.setNumThreads(1)
    write_shard(path, records(), {})
    done(len(members))


def _record(index: int, source: Source, size: tuple[int, int], seed: int, photos: tuple[str, ...]) -> bytes:
    clip, facts = make_clip(source, np.random.default_rng([seed, *size, index]), size, photos)
    known = {"source": source.name, "kind": source.kind, "licence": source.licence, "key": str(index), **facts}
    return pack_clip(clip, known | {"shot": [source.start, source.stop]}, "jpeg")


if __name__ == "__main__":
    main()
