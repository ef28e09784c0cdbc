"""Throughput of LPIPS and FVD against torch, on the same machine, the same weights and the same videos.

    python tools/bench_metrics.py                  ours, torch, their ratio and difference, line by line
    python tools/bench_metrics.py --clips 8 --frames 16 --repeats 5

Torch's side is the `lpips` package, and an I3D that is written out below because no package of it takes these weights.
Torch runs eagerly, as it is used, on a GPU where it sees one. Compilation is not counted; the best repeat counts. It
needs the extra `parity` and `gp-jax fetch`.
"""

import argparse
import importlib.metadata
import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import torch
import torch.nn.functional as F
from flax import nnx
from scipy.linalg import sqrtm

from gp_jax.bench.torch_worker import operators_of_torchvision
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.metrics.frechet import feature_moments, frechet_distance, fvd
from gp_jax.metrics.i3d import FEATURES, STAGES, WEIGHTS, load_i3d
from gp_jax.metrics.metric import Metric
from gp_jax.metrics.perceptual import lpips, lpips_vgg
from gp_jax.published.weights import load

LINE = "{:34} {:>14} {:>14} {:>8} {:>12}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--clips", type=int, default=4, help="clips, or frames, in a batch; at least 2")
    parser.add_argument("--frames", type=int, default=16, help="frames of a clip")
    parser.add_argument("--repeats", type=int, default=3, help="of which the fastest counts")
    options = parser.parse_args()

    operators = operators_of_torchvision()  # noqa: F841 - they last as long as the name
    device = "cuda" if torch.cuda.is_available() else "cpu"
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "torch", "lpips"))
    print(f"{versions}; jax on {jax.devices()[0].device_kind}, torch on {device}; {os.cpu_count()} CPU cores")
    print(LINE.format("", "ours", "torch", "ratio", "difference"))
    bench_fvd(options.clips, options.frames, options.repeats, device)
    bench_i3d(options.clips, options.frames, options.repeats, device)
    bench_lpips("alex", lpips, options.clips, options.repeats, device)
    bench_lpips("vgg", lpips_vgg, options.clips, options.repeats, device)
    bench_distance(options.repeats)


def bench_fvd(count: int, frames: int, repeats: int, device: str) -> None:
    """From clips to the number: resized, through I3D, compared."""
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, count, frames, 256, 256, 3)).astype(np.float32)
    model = TorchI3D(device)

    def features(clips: np.ndarray) -> np.ndarray:
        return model(F.interpolate(to_torch(clips, device), (frames, 224, 224), mode="trilinear")).cpu().numpy()

    name = f"FVD, clips of {frames} x 256 x 256"
    compare(name, 2 * count, repeats, lambda: fvd(a, b), lambda: textbook_distance(features(a), features(b)))


def bench_i3d(count: int, frames: int, repeats: int, device: str) -> None:
    clips = np.random.default_rng(0).uniform(-1, 1, (count, frames, 224, 224, 3)).astype(np.float32)
    ours, theirs = nnx.jit(lambda model, x: model(x)), TorchI3D(device)
    name = f"I3D, clips of {frames} x 224 x 224"
    compare(name, count, repeats, lambda: ours(load_i3d(), clips), lambda: theirs(to_torch(clips, device)))


def bench_lpips(net: str, metric: Metric, count: int, repeats: int, device: str) -> None:
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, count, 256, 256, 3)).astype(np.float32)
    model = torch_lpips(net).to(device)
    compare(
        f"LPIPS {net}, frames of 256 x 256",
        count,
        repeats,
        lambda: metric.frames(a[:, None], b[:, None]).values[:, 0],
        lambda: model(to_torch(a, device), to_torch(b, device)).reshape(-1),
    )


def bench_distance(repeats: int) -> None:
    features = np.random.default_rng(0).normal(size=(2, 512, FEATURES)).astype(np.float32)
    compare(
        "Frechet distance, 512 clips a side",
        1,
        repeats,
        lambda: frechet_distance(*map(feature_moments, features), ddof=1),
        lambda: textbook_distance(*features),
    )


def compare(name: str, items: int, repeats: int, ours: Callable[[], Any], theirs: Callable[[], Any]) -> None:
    """Prints items per second of both, their ratio, and the largest relative difference of what they return."""
    values, seconds = zip(*(best(function, repeats) for function in (ours, theirs)))
    difference = np.abs(values[0] - values[1]).max() / np.abs(values[1]).max()
    rates = [f"{items / each:.2f}/s" for each in seconds]
    print(LINE.format(name, *rates, f"{seconds[1] / seconds[0]:.2f}", f"{difference:.1e}"), flush=True)


def best(function: Callable[[], Any], repeats: int) -> tuple[np.ndarray, float]:
    """What `function` returns, on the host, and the least number of seconds it took after a first call."""

    def timed() -> tuple[np.ndarray, float]:
        start = time.perf_counter()
        with torch.inference_mode():
            value = function()
        value = value.cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
        return value, time.perf_counter() - start

    value, _ = timed()
    return value, min(timed()[1] for _ in range(repeats))


def to_torch(video: np.ndarray, device: str = "cpu") -> torch.Tensor:
    """Channels from the last axis to the second."""
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(video, -1, 1))).to(device)


class TorchI3D:
    """I3D in torch, with TensorFlow's SAME padding: [B, 3, T, 224, 224] in [-1, 1] to logits [B, 400]."""

    def __init__(self, device: str = "cpu"):
        # Kernels from [t, h, w, in, out] to [out, in, t, h, w].
        self.weights = {
            name: torch.from_numpy(np.ascontiguousarray(x.transpose(4, 3, 0, 1, 2) if x.ndim == 5 else x)).to(device)
            for name, x in load(WEIGHTS).items()
        }

    def __call__(self, video: torch.Tensor) -> torch.Tensor:
        x = self.unit("conv_1a", video, stride=2)
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.unit("conv_2c", self.unit("conv_2b", x))
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        for name, detail in STAGES:
            x = self.pool(x, *detail) if name == "pool" else self.inception(name, x)
        x = F.avg_pool3d(x, (2, 7, 7), stride=1)
        return F.conv3d(x, self.weights["logits.kernel"], self.weights["logits.bias"]).mean(dim=(2, 3, 4))

    def inception(self, name: str, x: torch.Tensor) -> torch.Tensor:
        branches = (
            self.unit(f"{name}.point", x),
            self.unit(f"{name}.expand_1", self.unit(f"{name}.reduce_1", x)),
            self.unit(f"{name}.expand_2", self.unit(f"{name}.reduce_2", x)),
            self.unit(f"{name}.pooled", self.pool(x, (3, 3, 3), (1, 1, 1))),
        )
        return torch.cat(branches, dim=1)

    def unit(self, name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel = self.weights[f"{name}.kernel"]
        x = pad_same(x, kernel.shape[2:], (stride,) * 3)
        return F.relu(F.conv3d(x, kernel, self.weights[f"{name}.bias"], stride=stride))

    def pool(self, x: torch.Tensor, window: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
        return F.max_pool3d(pad_same(x, window, strides), window, strides)


def pad_same(x: torch.Tensor, window: tuple[int, ...], strides: tuple[int, ...]) -> torch.Tensor:
    """Zeros around [B, C, T, H, W], the odd one behind; a max pool may see them, as features are never below 0."""
    pads = []
    for size, width, stride in zip(x.shape[2:], window, strides):
        total = max(0, (-(-size // stride) - 1) * stride + width - size)
        pads = [total // 2, total - total // 2, *pads]
    return F.pad(x, pads)


def torch_lpips(net: str) -> torch.nn.Module:
    """The `lpips` package with its own heads; the classifier's weights, which it would download, are ours."""
    from lpips import LPIPS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision deprecates how it is called
        model = LPIPS(net=net, pnet_rand=True, verbose=False).eval()
    tensors = load(f"lpips-{net}")
    kernels = sorted(name for name in tensors if name.endswith("kernel"))
    convolutions = [layer for layer in model.net.modules() if isinstance(layer, torch.nn.Conv2d)]
    for layer, name in zip(convolutions, kernels, strict=True):
        layer.weight.data = torch.from_numpy(tensors[name].transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.from_numpy(tensors[name.replace("kernel", "bias")])
    return model


def textbook_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Frechet distance with a matrix root, as published code computes it."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return mean + np.trace(first + second - 2 * sqrtm(first @ second).real)


if __name__ == "__main__":
    main()
