"""Weight files of other people: safetensors, shards, torch pickles. Tensors are read when they are asked for.

A pickle can run code. It is opened only by `torch.load(weights_only=True)`, which knows tensors and plain containers
and refuses everything else; without torch it is not opened at all.
"""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.weights import LazyTensor, read_tensors

PICKLES = (".bin", ".ckpt", ".pt", ".pth")
# What a component's weights may be called, best first: safetensors before pickles, whole precision before half.
WEIGHT_FILES = tuple(
    name
    for suffix, bases in (
        (".safetensors", ("model", "diffusion_pytorch_model", "open_clip_model")),
        (".bin", ("pytorch_model", "diffusion_pytorch_model", "open_clip_pytorch_model")),
    )
    for variant in ("", ".fp16", ".bf16")
    for base in bases
    for name in (f"{base}{variant}{suffix}", f"{base}{suffix}.index{variant}.json")
)


def find_weights(folder: Path) -> Path:
    """The weight file of a component's folder, or the index of its shards; raises UserError where there is none."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"{folder} holds no weights; expected model.safetensors, diffusion_pytorch_model.safetensors or alike"
    )


def open_weights(path: Path) -> dict[str, LazyTensor]:
    """The tensors of a file or of an index, none of them read yet.

    Raises:
      UserError: the file is missing, truncated, of an unknown kind, or a pickle that is more than tensors.
    """
    if path.name.endswith(".json"):
        return _open_shards(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return _open_pickle(path) if path.suffix in PICKLES else read_tensors(path)


def _open_shards(index: Path) -> dict[str, LazyTensor]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict):
        raise UserError(f"{index} has no weight_map; it is not the index of a sharded checkpoint")
    if outside := [name for name in where.values() if Path(name).name != name]:
        raise UserError(f"{index} points outside its folder: {outside[0]}")
    tensors = {}
    for shard in sorted(set(where.values())):
        tensors.update(open_weights(index.parent / shard))
    if lost := sorted(where.keys() - tensors.keys()):
        raise UserError(f"{index} lists tensors that its shards do not hold: {', '.join(lost)}")
    return tensors


def _open_pickle(path: Path) -> dict[str, LazyTensor]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is a pickle, which only torch reads safely; install torch or use a .safetensors file"
        ) from None
    try:
        # Memory mapping needs the zip container, which torch has written since version 1.6.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:
        # torch's messages suggest to switch the safety off; only their first line is about the file.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{path} was not loaded: it is broken or holds more than tensors ({reason})") from None
    state = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds no dictionary of tensors")
    return {name: _from_torch(value) for name, value in state.items() if isinstance(value, torch.Tensor)}


def _from_torch(tensor: Any) -> LazyTensor:
    import torch

    bfloat16 = tensor.dtype == torch.bfloat16
    dtype = np.dtype(ml_dtypes.bfloat16) if bfloat16 else torch.empty(0, dtype=tensor.dtype).numpy().dtype

    def read() -> np.ndarray:
        return tensor.view(torch.uint16).numpy().view(dtype) if bfloat16 else tensor.numpy()

    return LazyTensor(tuple(tensor.shape), dtype, read)
