"""Weight files of other people: safetensors, shards, torch pickles. Tensors are read when they are asked for.

What a file is tells its beginning, not its name. A pickle can run code: it is opened only by
`torch.load(weights_only=True)`, which knows tensors and plain containers and refuses everything else; without torch it
is not opened at all.
"""

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gp_jax.checkpoint.tensors import LazyTensor, listed, read_tensors
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import short

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
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
# How files begin that are taken for weights, and what they are.
_STRANGERS = (
    (rb"\Z", "is empty; fetch it again"),
    (rb"version https://git-lfs", "is a pointer of git-lfs, not the file itself; fetch it by `git lfs pull`"),
    (rb"\s*<", "is a web page, not weights; fetch the file itself"),
    (rb"GGUF|ggml|ggjt", "is a GGUF file, whose weights are quantised; use the original in safetensors"),
    (rb"\x08.{0,40}(pytorch|onnx|tf2onnx)", "is an ONNX graph; use the model's weights in safetensors"),
    (rb"\x89HDF", "is an HDF5 file of Keras; use the model's weights in safetensors"),
    (rb"\x1f\x8b|7z\xbc\xaf|Rar!|\xfd7zXZ|\x28\xb5\x2f\xfd|BZh", "is a compressed archive; unpack it first"),
)
# The keys under which torch users put a state among other things.
_STATES = ("state_dict", "model", "module")


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
    return _open_shards(path) if path.name.endswith(".json") else _open_file(path)


def _open_file(path: Path) -> dict[str, LazyTensor]:
    if not os.path.isfile(path):
        raise UserError(f"{path} does not exist" if not os.path.exists(path) else f"{path} is no file")
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    if start.startswith((_ZIP, _PICKLE)) and start[8:9] != b"{":
        return _open_pickle(path)
    for pattern, kind in _STRANGERS:
        # A safetensors file may begin with any byte, but its header's length leaves the next ones zero.
        if start[4:8] != bytes(4) and re.match(pattern, start, re.DOTALL):
            raise UserError(f"{path} {kind}")
    return read_tensors(path)


def _open_shards(index: Path) -> dict[str, LazyTensor]:
    where = read_json(index).get("weight_map")
    if not isinstance(where, dict) or not where:
        raise UserError(f"{index} has no weight_map; it is not the index of a sharded checkpoint")
    for name in where.values():
        if not isinstance(name, str) or not name.endswith((".safetensors", ".bin")):
            raise UserError(f"{index} names a shard {short(name)}; it must be a .safetensors or .bin file")
        if Path(name).name != name:
            raise UserError(f"{index} points outside its folder: {short(name)}")
    tensors: dict[str, LazyTensor] = {}
    for shard in sorted(set(where.values())):
        found = _open_file(index.parent / shard)
        if twice := sorted(tensors.keys() & found.keys()):
            raise UserError(f"{index}: {twice[0]} is in {shard} and in another shard; fetch the model again")
        tensors |= found
    if lost := sorted(where.keys() - tensors.keys()):
        raise UserError(f"{index} lists tensors that its shards do not hold:\n  {listed(lost)}")
    return tensors


def _open_pickle(path: Path) -> dict[str, LazyTensor]:
    try:
        zipped = zipfile.is_zipfile(path)
        if zipped:
            _check_zip(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise UserError(f"{path} was not loaded: it is broken ({error})") from None
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path} is a pickle, which only torch reads safely; install torch or use a .safetensors file"
        ) from None
    try:
        # Memory mapping needs the zip container, which torch has written since version 1.6.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:  # whatever a broken file makes it raise; its advice is to switch the safety off
        if alien := re.search(r"(?:GLOBAL|class|function) ([\w.]+\.[\w.]+)", str(error)):
            raise UserError(
                f"{path} was not loaded: it holds more than tensors ({alien[1]}), which could run code; "
                "use a .safetensors file"
            ) from None
        raise UserError(
            f"{path} was not loaded: it is broken, or holds more than tensors ({type(error).__name__}); fetch it "
            "again, or use a .safetensors file"
        ) from None
    return _tensors(content, path)


def _check_zip(path: Path) -> None:
    """Raises UserError where a zip is none of torch's, or unpacks to more than it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    names = {entry.filename.partition("/")[2] for entry in entries}
    if "constants.pkl" in names or any(name.startswith("code/") for name in names):
        raise UserError(f"{path} is a TorchScript program; use the model's weights in safetensors")
    if "data.pkl" not in names:
        raise UserError(f"{path} is a zip archive without weights of torch in it; unpack it first")
    size = path.stat().st_size
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size > size for entry in entries):
        raise UserError(f"{path} is compressed, as torch writes nothing; use a .safetensors file")


def _tensors(content: Any, path: Path) -> dict[str, LazyTensor]:
    import torch

    state = content
    if isinstance(content, Mapping):
        state = next((content[key] for key in _STATES if isinstance(content.get(key), Mapping)), content)
    if not isinstance(state, Mapping):
        raise UserError(f"{path} holds no dictionary of tensors")
    found = {name: value for name, value in state.items() if isinstance(value, torch.Tensor)}
    if not found:
        raise UserError(f"{path} holds no tensors but {short(list(state)) if state else 'an empty dictionary'}")
    for name, tensor in found.items():
        if not isinstance(name, str):
            raise UserError(f"{path} has the key {short(name)} where tensors have names")
        if problem := _problem(tensor):
            raise UserError(f"{path}: tensor {name} is {problem}; use an export of plain float32 or float16 tensors")
    return {name: _from_torch(tensor) for name, tensor in found.items()}


def _problem(tensor: Any) -> str | None:
    """Why a tensor cannot be read as an array, if it can't."""
    import torch

    known = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    known += (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)
    if tensor.device.type != "cpu":
        return f"on the device {tensor.device.type}, without values"
    if tensor.layout != torch.strided or tensor.is_nested:
        return f"sparse or nested ({tensor.layout})"
    if tensor.is_quantized:
        return "quantised"
    if tensor.dtype not in known:
        return f"of the type {tensor.dtype}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return "larger than what is stored of it"
    return None


def _from_torch(tensor: Any) -> LazyTensor:
    import torch

    tensor = tensor.detach()
    bfloat16 = tensor.dtype == torch.bfloat16
    dtype = np.dtype(ml_dtypes.bfloat16) if bfloat16 else torch.empty(0, dtype=tensor.dtype).numpy().dtype

    def read() -> np.ndarray:
        return tensor.view(torch.uint16).numpy().view(dtype) if bfloat16 else tensor.numpy()

    return LazyTensor(tuple(tensor.shape), dtype, read)
