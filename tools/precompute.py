"""Precomputes what training would compute again and again: latents, features of the vision tower, text embeddings.

    python tools/precompute.py records/256 latents features text --checkpoint my_model/ --variants 4 --frames 16
    python tools/precompute.py records/256 features --checkpoint my_model/ --variants 4 --open-clip CLIP-ViT-H-14/
    python tools/precompute.py records/256 all --checkpoint my_model/
    python tools/precompute.py records/256 latents features text --verify

The files lie in `records/256/precomputed/`, one folder for each part. Every clip gets `--variants` canvases, with their
mirror images and feature frames; latents and features must be made with the same options. Features come from the
observed rectangle alone, masked latents from the observed pixels. All networks and records that the parts need are
looked at before the first is made. `--open-clip` computes features by open_clip_torch
from a folder with open_clip_config.json; `gp-jax convert` makes the `clip/` of a checkpoint from the same folder.

Interrupted, the same command goes on with the shards that are missing; hosts that share the folder each run it with
their own `--host I/N`. One process drives all accelerators of its host; `--processes` is for CPUs, and each holds the
network. Memory grows with `--batch`: 0.2 GB a frame of 256 x 256 pixels for the autoencoder of Stable Diffusion.
"""

import argparse
import dataclasses
import functools
import itertools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jobs import add_arguments, of_host, pieces, run, verify

from gp_jax.checkpoint.components import COMPONENTS, load_module
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.checkpoint.text import embed_text, load_tokenizer
from gp_jax.cli.arguments import HelpFormatter, count, seed
from gp_jax.cli.engine import Done, Engine, share_out
from gp_jax.convert import load
from gp_jax.data.clips import Clip, RecordFolder
from gp_jax.data.examples import observed_pictures
from gp_jax.data.precomputed import FOLDER, VARIED, Recipe, Variant, model_hash, records_hash, variant
from gp_jax.data.shards import begin, finish, pack, read_manifest, shard_names, write_shard
from gp_jax.errors import UserError
from gp_jax.geometry import MASK_RULES, pixel_mask
from gp_jax.methods.latents import encode
from gp_jax.methods.placement import to_float
from gp_jax.models.clip import preprocess
from gp_jax.parallel import make_mesh

Tensors = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Networks:
    """Where networks come from, and how many frames they take at a time."""

    checkpoint: str
    open_clip: Path | None
    batch: int

    def component(self, name: str) -> nnx.Module:
        """A network of the checkpoint, in float32; raises UserError where it has none of that name."""
        folder = find_checkpoint(self.checkpoint) / name
        if not folder.is_dir():
            raise UserError(f"the checkpoint {self.checkpoint} has no {name}/: convert one into it")
        return load_module(*COMPONENTS[name], folder, param_dtype=jnp.float32, dtype=jnp.float32)


class Latents:
    """Of all frames of a clip: whole, and of the observed pixels alone."""

    def __init__(self, networks: Networks):
        self.network = networks.component("vae")
        self._encode = Batched(_encode_both, self.network, networks.batch)

    def __call__(self, clip: Clip, view: Variant, done: Callable[[float], None]) -> Tensors:
        frames = _mirrored(clip.read(range(clip.num_frames)), view)
        masks = np.broadcast_to(pixel_mask(view.canvas), frames.shape[:3])
        latents, masked = self._encode(frames, masks, done=done)
        return {"latents": latents, "masked_latents": masked}


class Features:
    """Patch tokens of the observed rectangle of some frames, by our tower or by open_clip_torch."""

    def __init__(self, networks: Networks):
        if networks.open_clip:
            self.network = load(networks.open_clip)[0]["clip"]
            self._encode = open_clip_encoder(networks.open_clip, networks.batch)
        else:
            self.network = networks.component("clip")
            self._encode = Batched(_encode_views, self.network, networks.batch)

    def __call__(self, clip: Clip, view: Variant, done: Callable[[float], None]) -> Tensors:
        frames = _mirrored(clip.read(view.seen), view)
        views = observed_pictures(frames, view.canvas, self.network.config.image_size)
        return {"features": self._encode(views), "seen": view.seen.astype(np.int32)}


class Text:
    """The embedding of a clip's caption."""

    def __init__(self, networks: Networks):
        self.network = networks.component("text")
        self._tokenizer = load_tokenizer(find_checkpoint(networks.checkpoint) / "tokenizer", self.network.config)

    def __call__(self, clip: Clip, view: None, done: Callable[[float], None]) -> Tensors:
        return {"text": embed_text(self.network, self._tokenizer, clip.facts.get("caption", ""))[0]}


PARTS: dict[str, Callable[[Networks], Any]] = {"latents": Latents, "features": Features, "text": Text}


def precompute(arguments: argparse.Namespace) -> int | None:
    """All parts that were asked for, one after the other; what can be wrong with any is found before the first."""
    records, engine = arguments.records, Engine.of(arguments)
    parts = list(PARTS) if "all" in arguments.parts else list(dict.fromkeys(arguments.parts))
    if arguments.verify:
        return max(verify(records / FOLDER / part, f"tools/precompute.py {records} {part}", engine) for part in parts)
    batch = arguments.batch or (4 if jax.default_backend() == "cpu" else 32)
    networks = Networks(arguments.checkpoint, arguments.open_clip, batch)
    recipe = Recipe(**{name: getattr(arguments, name) for name in Recipe.__dataclass_fields__})
    clips = {
        split: RecordFolder(records, split) for split in read_manifest(records, "tools/build_records.py")["shards"]
    }
    jobs = list(_jobs({split: len(folder) for split, folder in clips.items()}))
    shards = {split: [name for name, of, _ in jobs if of == split] for split in clips}
    jobs = of_host(jobs, arguments.host)
    models = {}
    for part in parts:
        models[part] = _look_at(part, networks, clips)
        varied = {"plan": vars(recipe)} if part in VARIED else {}
        begin(records / FOLDER / part, {"records": records_hash(records), "model": models[part], **varied})
    for part in parts:
        output = records / FOLDER / part
        work = functools.partial(build_shard, records=records, part=part, recipe=recipe, networks=networks)
        total = sum(len(indices) for _, _, indices in jobs)
        share_out(work, jobs, engine, f"records with {part}", total)
        if finish(output, shards, {"format": part, "model": models[part]}):
            print(f"{output}: finished; its network is {models[part]}")
        else:
            print(f"{output}: this host's shards are done; the host that finishes last writes the manifest")
    return None


def _jobs(records: Mapping[str, int]) -> Iterator[tuple[str, str, range]]:
    """(name, split, records) of each shard, of so many records in each split."""
    for split, total in records.items():
        names = shard_names(split, pieces(total))
        bounds = [total * index // max(1, len(names)) for index in range(len(names) + 1)]
        for name, (first, stop) in zip(names, itertools.pairwise(bounds)):
            yield name, split, range(first, stop)


def _look_at(part: str, networks: Networks, clips: Mapping[str, RecordFolder]) -> str:
    """The hash of a part's network, which is read for it; UserError where there is none, or not for such frames."""
    network = PARTS[part](networks).network
    if part == "latents":
        for folder in clips.values():
            if any(side % network.config.downsampling for side in folder.size):
                raise UserError(
                    f"{folder.folder}: frames of {folder.size[1]}x{folder.size[0]} pixels cannot be encoded: the "
                    f"autoencoder of {networks.checkpoint} needs multiples of {network.config.downsampling}"
                )
    return model_hash(network)


def build_shard(
    name: str, split: str, indices: range, done: Done, *, records: Path, part: str, recipe: Recipe, networks: Networks
) -> None:
    """A shard, unless it is finished; `done` counts records."""
    clips = RecordFolder(records, split)
    write_shard(records / FOLDER / part / name, _records(clips, indices, part, recipe, networks, done), {})
    done(len(indices))


def _records(
    clips: RecordFolder, indices: range, part: str, recipe: Recipe, networks: Networks, done: Done
) -> Iterator[bytes]:
    make = make_part(part, networks)
    numbers = range(recipe.variants) if part in VARIED else [None]
    for start, index in enumerate(indices):
        parts = [done.part(start + k / len(numbers), 1 / len(numbers)) for k in range(len(numbers))]
        try:
            yield from [_record(clips, index, *which, recipe, make) for which in zip(numbers, parts)]
        except UserError as error:  # its place stays, so that the others keep theirs
            print(f"{clips.name(index)}: {error}", file=sys.stderr)
            yield from [pack({}, {"broken": str(error)})] * len(numbers)


def _record(
    clips: RecordFolder, index: int, number: int | None, done: Callable[[float], None], recipe: Recipe, make: Callable
) -> bytes:
    clip = clips[index]
    view = None if number is None else variant(recipe, clip.key, number, clip.num_frames, clips.size)
    tensors = make(clip, view, done)
    done(1)
    halved = {name: x.astype(np.float16) if x.dtype == np.float32 else x for name, x in tensors.items()}
    return pack(halved, {"key": clip.key, **(view.facts() if view else {})})


@functools.lru_cache(maxsize=1)
def make_part(part: str, networks: Networks) -> Any:
    """The part with its network, which a process that makes shards reads once."""
    return PARTS[part](networks)


class Batched:
    """A function of a network and arrays [N, ...], applied to pieces of one size that lie on all devices of this host.

    Args:
      function: (network, *arrays) -> arrays [N, ...].
      network: copied to every device.
      batch: rows of a piece, rounded up to a multiple of the devices.
    """

    def __init__(self, function: Callable, network: nnx.Module, batch: int):
        mesh = make_mesh(devices=jax.local_devices())
        self._rows = -(-batch // mesh.size) * mesh.size
        self._sharding = NamedSharding(mesh, PartitionSpec("data"))
        self._network = jax.device_put(network, NamedSharding(mesh, PartitionSpec()))
        self._function = jax.jit(function)

    def __call__(self, *arrays: np.ndarray, done: Callable[[float], None] = lambda share: None) -> Any:
        """What the function makes of the arrays, as NumPy arrays; `done` is told the share of the rows that are."""
        total, made = len(arrays[0]), []
        for first in range(0, total, self._rows):
            pieces = [array[first : first + self._rows] for array in arrays]
            missing = self._rows - len(pieces[0])
            pieces = [np.pad(piece, ((0, missing), *[(0, 0)] * (piece.ndim - 1))) for piece in pieces]
            out = self._function(self._network, *jax.device_put(pieces, self._sharding))
            made.append(jax.tree.map(np.asarray, out))  # waits, so that one piece at a time is on the devices
            done(min(first + self._rows, total) / total)
        return jax.tree.map(lambda *x: np.concatenate(x)[:total], *made)


def open_clip_encoder(folder: Path, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    """The same features by open_clip_torch: views [N, S, S, 3] uint8 -> [N, P, D] float32.

    Raises:
      UserError: the package is not installed.
    """
    try:
        import open_clip
        import torch
    except ImportError as error:
        raise UserError(f"--open-clip needs open_clip_torch ({error}): pip install 'gp_jax[clip]'") from None
    device = "cuda" if torch.cuda.is_available() else "cpu"
    visual = open_clip.create_model(f"local-dir:{folder}", device=device).visual.eval()
    visual.output_tokens = True

    @torch.inference_mode()
    def encode(views: np.ndarray) -> np.ndarray:
        pixels = torch.tensor(np.asarray(preprocess(to_float(jnp.asarray(views)), views.shape[1]))).permute(0, 3, 1, 2)
        tokens = [visual(piece.to(device))[1].cpu().numpy() for piece in pixels.split(batch)]
        return np.concatenate(tokens)

    return encode


def _encode_both(vae: nnx.Module, frames: jax.Array, masks: jax.Array) -> tuple[jax.Array, jax.Array]:
    pixels = to_float(frames)
    observed = jnp.where(masks[..., None] == 0, pixels, 0.0)
    return tuple(encode(vae, x[:, None])[:, 0] for x in (pixels, observed))


def _encode_views(vision: nnx.Module, views: jax.Array) -> jax.Array:
    return vision(preprocess(to_float(views), views.shape[1]))


def _mirrored(frames: np.ndarray, view: Variant) -> np.ndarray:
    return frames[:, :, ::-1] if view.flip else frames


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("records", type=Path, help="folder that build_records.py made")
    parser.add_argument("parts", nargs="+", choices=(*PARTS, "all"), help="what to make of them")
    parser.add_argument("--verify", action="store_true", help="check finished parts and do nothing else")
    parser.add_argument("--checkpoint", default="tiny", help="with the networks, vae/, clip/ and text/")
    parser.add_argument("--open-clip", type=Path, metavar="FOLDER", help="features by open_clip_torch")
    parser.add_argument("--variants", type=count, default=4, help="canvases of each clip")
    parser.add_argument("--frames", dest="feature_frames", type=count, default=16, help="of a clip for its features")
    parser.add_argument(
        "--ratio-range",
        type=float,
        nargs=2,
        default=(0.15, 0.6),
        metavar="X",
        help="least and largest unknown share of a canvas",
    )
    parser.add_argument("--directions", nargs="+", choices=MASK_RULES, default=(), help="of the canvases; default: all")
    parser.add_argument("--no-flip", dest="flip", action="store_false", help="no mirror images")
    parser.add_argument("--seed", type=seed, default=0, help="of canvases, mirror images and frames")
    parser.add_argument("--batch", type=count, help="frames at a time (default: 32, on CPUs 4)")
    add_arguments(parser, processes=1)
    return parser.parse_args()


if __name__ == "__main__":
    run(precompute, parse())
