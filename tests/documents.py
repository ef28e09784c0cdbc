"""The commands of README, of help, of tools and of configurations as words; and small data under the names they use."""

import ast
import dataclasses
import json
import re
import shlex
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.numpy import save_file

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import save_module
from gp_jax.cli.main import COMMANDS
from gp_jax.convert import convert
from gp_jax.models.unet import UNet
from gp_jax.video import VideoWriter
from tests import small_m3ddm, small_motia, small_networks
from tests.evaluation import small_protocol

ROOT = Path(__file__).parents[1]
SIZE = small_protocol.PROTOCOL.height, small_protocol.PROTOCOL.width
DOCUMENTS = (
    "README.md",
    *(f"gp_jax/cli/{name}.py" for name in COMMANDS),
    *sorted(f"configs/{path.name}" for path in (ROOT / "configs").glob("*.py")),
    *sorted(f"tools/{path.name}" for path in (ROOT / "tools").glob("*.py")),
)
# The first words of a command.
_COMMAND = r"(gp-jax|python3?|pip|pytest)\b"


def commands(document: str) -> list[list[str]]:
    """The words of each command of a file, in the order in which a reader meets them."""
    text = (ROOT / document).read_text()
    if document.endswith(".py"):
        return [shlex.split(line) for line in _lines(ast.get_docstring(ast.parse(text), clean=False) or "")]
    found = []
    # Blocks of code, and code within a line that is more than the name of a command.
    code = r"^```(\w*)\n(.*?)^```|`(gp-jax [^`]+ [^`]+|python tools/[^`]+)`"
    for language, block, inline in re.findall(code, text, re.S | re.M):
        found += (
            [["python", "-c", block]]
            if language == "python"
            else map(shlex.split, _lines(block or " ".join(inline.split())))
        )
    return found


def _lines(text: str) -> Iterator[str]:
    """Command lines without what is remarked behind them; of several that are chained, each."""
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        line = re.sub(r"(\S)\s{2,}(?![-\s]).*", r"\1", line.strip())
        parts = (part.removeprefix(".venv/bin/") for part in line.split(" && "))
        yield from (part for part in parts if re.match(_COMMAND, part))


def film(path: Path, size: tuple[int, int] = (48, 64), frames: int = 24, seed: int = 0) -> None:
    """A video, or a folder of PNGs, of a texture under a moving camera."""
    height, width = size
    rng = np.random.default_rng(seed)
    texture = cv2.resize(rng.integers(0, 256, (4, 9, 3), np.uint8), (width + 2 * frames, height))
    with VideoWriter(path, 24) as writer:
        for frame in range(frames):
            writer.write(np.ascontiguousarray(texture[:, 2 * frame : 2 * frame + width]))


def films(folder: Path) -> None:
    folder.mkdir()
    for number in range(2):
        film(folder / f"{number}.mp4", seed=number)


def davis(folder: Path, layout: str = "JPEGImages/480p") -> None:
    for name, frames in small_protocol.CLIPS.items():
        (folder / layout).mkdir(parents=True, exist_ok=True)
        film(folder / layout / name, SIZE, frames)
    lists = folder / "ImageSets" / "2017"
    if layout:
        lists.mkdir(parents=True)
        (lists / "val.txt").write_text("\n".join(small_protocol.CLIPS))
        (lists / "train.txt").write_text("pond")


def outputs(folder: Path) -> None:
    """What another system made of that DAVIS."""
    for case in small_protocol.CASES:
        (folder / case).mkdir(parents=True)
        for name, frames in small_protocol.CLIPS.items():
            film(folder / case / name, SIZE, frames, seed=1)


def table(file: Path) -> None:
    """A list of films, as OpenVid and WebVid are lists."""
    film(file.parent / "film.mp4")
    file.write_text("path,caption\nfilm.mp4,a harbour at dawn\n")


def arrays(file: Path) -> None:
    np.save(file, np.random.default_rng(0).integers(0, 256, (2, 20, 72, 128, 3), np.uint8))


def clips_json(file: Path) -> None:
    file.write_text("[{}, {}]")


def log(folder: Path) -> None:
    folder.mkdir()
    lines = [{"step": step, "loss": 1 / step, "validation_loss": 2 / step} for step in range(1, 4)]
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def diffusers_folder(folder: Path) -> None:
    from tests.convert import references

    small = {
        "sample_size": 8,
        "block_out_channels": (32,),
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
        "attention_head_dim": (2,),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(references.UNETS, "sd2", references.SD2 | small)
        references.save_pipeline(folder)


def open_clip_folder(folder: Path) -> None:
    from tests.convert import references

    references.save_open_clip(references.whole_open_clip(), folder)


def lora(file: Path) -> None:
    """Of the small image model."""
    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_"
    save_file({f"{name}down.weight": np.ones((1, 32)), f"{name}up.weight": np.ones((32, 1))}, file)


def checkpoint(folder: Path, **unet: object) -> None:
    """A small checkpoint, with another UNet if there are `unet`'s fields."""
    small_networks.write(folder)
    for name in ("unet", "interpolation_unet") if unet else ():
        config = dataclasses.replace(small_networks.UNET, **unet)
        network = parameters.abstract(UNet, config)
        parameters.load_into(network, small_networks.random_weights(parameters.flatten(network), seed=0))
        save_module(network, folder / name, config.to_json())


def converted(folder: Path) -> None:
    """An image model with text and vision towers, as the commands of the README make it."""
    for make, only in ((diffusers_folder, None), (open_clip_folder, ["clip"])):
        make(folder.with_name(f"{folder.name}-{make.__name__}"))
        convert(folder.with_name(f"{folder.name}-{make.__name__}"), folder, only=only)


# Name -> what makes it: of small data, all that commands are given.
MAKERS: dict[str, Callable[[Path], None]] = {
    "clip.mp4": partial(film, frames=5),
    "clip.mov": partial(film, frames=5),
    "phone.mp4": partial(film, size=(64, 36), frames=3),
    "frames": partial(film, frames=3),
    "film.mp4": film,
    "films": films,
    "list.csv": table,
    "clips.npy": arrays,
    "clips.json": clips_json,
    "truth.mp4": partial(film, frames=16),
    "outpainted.mp4": partial(film, frames=16, seed=1),
    "DAVIS": davis,
    "clips": lambda folder: davis(folder, layout=""),
    "outputs": outputs,
    "log": log,
    "stable-diffusion-2-inpainting": diffusers_folder,
    "CLIP-ViT-H-14": open_clip_folder,
    "M3DDM": small_m3ddm.write_published,
    "MOTIA": small_motia.write_published,
    "stable-diffusion-v1-5": small_m3ddm.write_stable_diffusion,
    "checkpoint": checkpoint,
    "plain": partial(checkpoint, window=None, global_tokens=False),
    "windows": partial(checkpoint, global_tokens=False),
    "converted": converted,
    "ink.safetensors": lora,
    "logo.png": lambda file: cv2.imwrite(str(file), np.full((48, 64), 255, np.uint8)),
    "places.csv": lambda file: file.write_text("x,y\n" + "0,0\n" * 5),
}
