"""Builds records for training: every shot of every film, its frames scaled, cropped and encoded one by one.

    python tools/build_records.py videos films/ records/256 --size 256x256
    python tools/build_records.py csv OpenVid/list.csv records/openvid --size 256x256 --path "video/{video}"
    python tools/build_records.py csv WebVid/list.csv records/webvid --size 256x256 --caption "{name}" \\
        --path "videos/{page_dir}/{videoid}.mp4" --processes 32 --host 3/8
    python tools/build_records.py list OpenVid/list.parquet records/openvid --size 256x256 --path "video/{video}"
    python tools/build_records.py davis DAVIS/ records/davis --size 448x256
    python tools/build_records.py youtube-vos YouTubeVOS/ records/youtube-vos --size 448x256
    python tools/build_records.py tfds tensorflow_datasets/davis_frames/480p/2.1.0 records/davis --size 448x256
    python tools/build_records.py arrays clips_72x128.npy records/tiny --size 128x72 --encoding png --motion 0
    python tools/build_records.py videos films/ records/256 --size 256x256 --engine ray --address auto
    python tools/build_records.py --verify records/256

A folder holds frames of one size, in shards of ArrayRecord, each made from `--films` films by one process. Interrupted,
the same command goes on with the shards that are missing; hosts that share the folder each run it with their own
`--host I/N` (from 0 on). The manifest is written when no shard is missing. Films that cannot be read, and shots that
the filters leave out, are counted and named in it. What a shard holds does not depend on processes, hosts or
interruptions.

A `list` (.csv, .tsv, .parquet; `csv` is its old name) is read once, and no process holds it: the folder `list/` beside
the shards has its films, and says which rows were dropped and why. Its films are shuffled over the shards.
"""

import argparse
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from jobs import add_arguments, of_host, pieces, run, verify

from gp_jax.cli.arguments import HelpFormatter, count, share, size
from gp_jax.cli.engine import Done, Engine, share_out
from gp_jax.cli.progress import progress
from gp_jax.data.clips import ENCODINGS, pack_clip
from gp_jax.data.film_lists import index_list, shard_of
from gp_jax.data.shards import begin, finish, read_manifest, shard_names, write_shard
from gp_jax.data.shots import STILL, changes, find_shots, thumbnails
from gp_jax.data.sources import SOURCES, Film
from gp_jax.data.videos import cover
from gp_jax.errors import UserError

LISTS = ("list", "csv")  # kinds of source that nobody holds
OPTIONS = {"path": LISTS, "caption": LISTS, "resolution": ("davis",)}  # and the kinds of source that have them


@dataclass(frozen=True)
class Recipe:
    """How films become records.

    Attributes:
      size: (height, width) of the frames; they are scaled until they cover it, and cropped at the centre.
      least, most: frames of a record; longer shots are cut into several.
      motion: mean change from frame to frame below which a shot is left out, in levels of 255.
      enlarge: whether films smaller than `size` are used.
      encoding, quality: of the frames.
    """

    size: tuple[int, int]
    least: int
    most: int
    motion: float
    enlarge: bool
    encoding: str
    quality: int


@dataclass
class Tally:
    """What a shard's note says beyond its records."""

    frames: int = 0
    films: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # reason -> films or shots
    unreadable: dict[str, str] = field(default_factory=dict)  # film -> reason


def build(arguments: argparse.Namespace) -> int:
    """All shards of this host, then the manifest if none is missing."""
    engine = Engine.of(arguments)
    if arguments.verify:
        return verify(arguments.verify, "tools/build_records.py", engine)
    options = {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    facts = dict(arguments.fact)
    source = (_listed if arguments.kind in LISTS else _held)(arguments, options)
    shards = {split: shard_names(split, _shards(count, arguments.films)) for split, count in source.films.items()}
    noted = {"kind": arguments.kind, **options, **vars(recipe), "names": source.names, "facts": facts}
    begin(arguments.output, {**noted, "films": arguments.films, "validation": arguments.validation})

    jobs = [
        (arguments.output / name, source.shard(split, index, len(shards[split])))
        for split in shards
        for index, name in enumerate(shards[split])
    ]
    jobs = of_host(jobs, arguments.host)
    work = partial(build_shard, recipe=recipe, facts=facts)
    share_out(work, jobs, engine, "films cut into records", sum(len(films) for _, films in jobs))
    if finish(arguments.output, shards, {"format": "clips", "size": recipe.size, "dropped": source.dropped}):
        return report(arguments.output)
    print("this host's shards are done; the host that finishes last writes the manifest")
    return 0


class Source(NamedTuple):
    """What is to be cut into records: films by split, how shards of them are had, and what a list lost."""

    films: dict[str, int]
    shard: Callable[[str, int, int], Sequence[Film]]  # (split, index, number of shards)
    names: str  # sha256
    dropped: dict[str, int]  # reason -> rows


def _held(arguments: argparse.Namespace, options: dict[str, str]) -> Source:
    films = SOURCES[arguments.kind](arguments.source, **options)
    splits = split_films(films, arguments.validation)
    names = sha256("\n".join(film.name for film in films).encode()).hexdigest()
    counts = {split: len(members) for split, members in splits.items()}
    return Source(counts, lambda split, index, shards: splits[split][index::shards], names, {})


def _listed(arguments: argparse.Namespace, options: dict[str, str]) -> Source:
    folder = arguments.output / "list"
    with progress() as told:
        noted = index_list(
            arguments.source,
            folder,
            validation=arguments.validation,
            progress=lambda share: told(round(share, 2), 1, f"rows of {arguments.source.name} read"),
            **options,
        )
    return Source(noted["films"], partial(shard_of, noted, folder), noted["names"], noted["dropped"])


def report(folder: Path) -> int:
    """Prints what a finished folder holds, and what it does not; returns 1 where a split holds nothing."""
    manifest = read_manifest(folder, "tools/build_records.py")
    notes = [note for split in manifest["shards"].values() for note in split]
    left_out, unreadable = Counter(), {}
    for note in notes:
        left_out.update(note["left_out"])
        unreadable |= note["unreadable"]
    print(f"{folder}: {manifest['records']} records of {sum(note['frames'] for note in notes)} frames")
    for reason, number in manifest.get("dropped", {}).items():
        print(f"dropped from the list: {number} x {reason}")
    for reason, number in left_out.items():
        print(f"left out: {number} x {reason}")
    for name, reason in unreadable.items():
        print(f"unreadable: {name}: {reason}", file=sys.stderr)
    empty = [split for split, records in manifest["records"].items() if not records]
    for split in empty:
        print(f"{folder} has no record in the split {split}: see what was left out above", file=sys.stderr)
    return int(bool(empty))


def split_films(films: list[Film], validation: float) -> dict[str, list[Film]]:
    """Films by split; of a source without splits the share `validation`, chosen by the films' names.

    A split that is asked for gets a film at least, whatever the names.

    Raises:
      UserError: the source has splits of its own, or a single film.
    """
    free = sorted((zlib.crc32(film.name.encode()), i) for i, film in enumerate(films) if film.split is None)
    if validation and len(free) < 2:
        reason = "has splits of its own" if films and not free else "has a single film, which cannot be in two splits"
        raise UserError(f"the source {reason}: leave --validation out")
    drawn = sum(number < validation * 2**32 for number, _ in free)
    held_out = {i for _, i in free[: min(max(drawn, 1), len(free) - 1) if validation else 0]}
    splits: dict[str, list[Film]] = {"train": [], "validation": []}
    for i, film in enumerate(films):
        splits[film.split or ("validation" if i in held_out else "train")].append(film)
    return {split: members for split, members in splits.items() if members}


def _shards(films: int, of_each: int | None) -> int:
    return pieces(films) if of_each is None else -(-films // of_each)


def build_shard(path: Path, films: Sequence[Film], done: Done, *, recipe: Recipe, facts: dict[str, str]) -> None:
    """One shard, unless it is finished; a job of a process of its own, `done` in films."""
    cv2.setNumThreads(1)
    tally = Tally()
    write_shard(path, _records(films, recipe, facts, tally, done), vars(tally))
    done(len(films))


def _records(films: Sequence[Film], recipe: Recipe, facts: dict[str, str], tally: Tally, done: Done) -> Iterator[bytes]:
    for number, film in enumerate(films):
        tally.films += 1
        try:
            yield from film_records(film, recipe, facts, tally, done.part(number, 1))
        except UserError as error:
            tally.unreadable[film.name] = str(error)


def film_records(
    film: Film, recipe: Recipe, facts: dict[str, str], tally: Tally, done: Callable[[float], None]
) -> Iterator[bytes]:
    """A record for each usable shot of a film, of which `done` is told the share; UserError where it cannot be read."""
    frames = film.open()
    if len(frames) < recipe.least:
        tally.left_out["film shorter than a record"] += 1
        return
    height, width, _ = next(iter(frames)).shape
    if not recipe.enlarge and (height < recipe.size[0] or width < recipe.size[1]):
        tally.left_out["film smaller than the records"] += 1
        return
    small = thumbnails(_counted(frames, len(frames), done))  # the first of two times that its frames are decoded
    for start, stop in _shots(small, film.has_cuts, recipe, tally):
        known = {
            **film.facts,
            **facts,
            "key": f"{film.name}:{start}",
            "source": film.name,
            "first_frame": start,
            "frame_rate": float(film.frame_rate or frames.info.frame_rate),
            "caption": film.caption,
        }
        pictures = (cover(frame, recipe.size) for frame in frames.frames_at(range(start, stop)))
        tally.frames += stop - start
        yield pack_clip(pictures, known, recipe.encoding, recipe.quality)
        done(0.5 + stop / len(frames) / 2)


def _counted(frames: Iterable[np.ndarray], total: int, done: Callable[[float], None]) -> Iterator[np.ndarray]:
    """The frames, half of whose film is done with the last one."""
    for number, frame in enumerate(frames):
        yield frame
        if number % 32 == 0:
            done(number / total / 2)


def _shots(small: np.ndarray, has_cuts: bool, recipe: Recipe, tally: Tally) -> Iterator[tuple[int, int]]:
    """(start, stop) of each record of a film."""
    shots = find_shots(small, recipe.least, still=recipe.motion) if has_cuts else [(0, len(small))]
    if not shots:
        tally.left_out["film without a shot that is long enough, bright enough and moves"] += 1
    for first, last in shots:
        for start in range(first, last, recipe.most):
            stop = min(start + recipe.most, last)
            if stop - start < recipe.least:
                tally.left_out["rest of a shot, too short"] += 1
            elif changes(small[start:stop]).mean() < recipe.motion:
                tally.left_out["shot that stands still"] += 1
            else:
                yield start, stop


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("kind", nargs="?", choices=(*SOURCES, *LISTS), help="what the source is")
    parser.add_argument("source", nargs="?", type=Path, help="the folder or file")
    parser.add_argument("output", nargs="?", type=Path, help="folder of the records")
    parser.add_argument("--verify", type=Path, metavar="RECORDS", help="check a finished folder and do nothing else")
    parser.add_argument("--size", type=size, help="frames of the records, WIDTHxHEIGHT")
    parser.add_argument("--least", type=count, default=17, help="frames that a shot must have")
    parser.add_argument("--most", type=count, default=257, help="frames of a record; longer shots are cut")
    parser.add_argument("--motion", type=_levels, default=STILL, help="least mean change between frames, of 255")
    parser.add_argument("--enlarge", action="store_true", help="use films that are smaller than the records")
    parser.add_argument("--encoding", choices=ENCODINGS, default="jpeg", help="of a frame")
    parser.add_argument("--quality", type=int, choices=range(101), default=95, metavar="Q", help="of JPEG, 0 to 100")
    parser.add_argument("--validation", type=share, default=0.0, help="share of films, for sources without splits")
    parser.add_argument("--films", type=count, help="per shard (default: 64, or so few that there are 32 shards)")
    parser.add_argument("--fact", type=_fact, action="append", default=[], help="to note, such as licence=CC-BY-4.0")
    parser.add_argument("--path", help="list: where a row's video lies, as {page_dir}/{videoid}.mp4 (default: {path})")
    parser.add_argument("--caption", help="list: a row's caption, as {name} (default: {caption})")
    parser.add_argument("--resolution", help="davis: the folder within JPEGImages (default: 480p)")
    add_arguments(parser, processes=2)
    arguments = parser.parse_args()
    if not arguments.verify and (arguments.output is None or arguments.size is None):
        parser.error("name kind, source, output and --size, or --verify RECORDS")
    for name, kinds in OPTIONS.items():
        if arguments.kind and arguments.kind not in kinds and getattr(arguments, name) is not None:
            parser.error(f"--{name} is of {kinds[0]}, not of {arguments.kind}: leave it out")
    if arguments.least > arguments.most:
        parser.error(f"--least {arguments.least} is more than --most {arguments.most}: no record could be made")
    return arguments


def _fact(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"'{text}' is not of the form licence=CC-BY-4.0")
    return key, value


def _levels(text: str) -> float:
    if not re.fullmatch(r"\d{1,3}(\.\d*)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of levels from 0 to 255")
    return float(text)


if __name__ == "__main__":
    run(build, parse())
