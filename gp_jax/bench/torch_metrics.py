"""LPIPS and FVD by torch: the `lpips` package, and an I3D that is written out here because no package of it takes these
weights. Torch runs as it is used, not compiled; `bench/metrics.py` has the same cases, and FVD's distance is taken with
a matrix root, as published code does.
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.linalg import sqrtm

from gp_jax.bench.metrics import features, pairs
from gp_jax.metrics.i3d import STAGES, WEIGHTS
from gp_jax.published.weights import load


def calls(clips: int, frames: int, device: str) -> dict[str, Callable[[], Callable[[], np.ndarray]]]:
    """By the names of `metrics.cases`, what makes a call ready."""

    def moved() -> Callable[[], np.ndarray]:
        model, (a, b) = TorchI3D(device), pairs(clips, frames, 256, 256, 3)

        def read(videos: np.ndarray) -> np.ndarray:
            first = videos[:, :16]
            resized = F.interpolate(to_torch(first, device), (first.shape[1], 224, 224), mode="trilinear")
            return model(resized).cpu().numpy()

        return lambda: np.asarray(textbook_distance(read(a), read(b), ddof=0))

    def logits() -> Callable[[], np.ndarray]:
        model, videos = TorchI3D(device), pairs(clips, frames, 224, 224, 3)[0]
        return lambda: model(to_torch(videos, device)).cpu().numpy()

    def distances(net: str) -> Callable[[], np.ndarray]:
        model, (a, b) = torch_lpips(net).to(device), pairs(clips, 256, 256, 3)
        return lambda: model(to_torch(a, device), to_torch(b, device)).reshape(-1).cpu().numpy()

    return {
        "fvd": moved,
        "i3d": logits,
        "lpips": lambda: distances("alex"),
        "lpips-vgg": lambda: distances("vgg"),
        "frechet": lambda: lambda: np.asarray(textbook_distance(*features())),
    }


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
        weight, bias = tensors[name].transpose(3, 2, 0, 1).copy(), tensors[name.replace("kernel", "bias")]
        layer.load_state_dict({"weight": torch.from_numpy(weight), "bias": torch.from_numpy(bias)})
    return model


def textbook_distance(a: np.ndarray, b: np.ndarray, ddof: int = 1) -> float:
    """Frechet distance with a matrix root, as published code computes it."""
    first, second = (np.cov(x, rowvar=False, ddof=ddof) for x in (a, b))
    mean = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    root = np.real(np.asarray(sqrtm(first @ second)))
    return mean + np.trace(first + second - 2 * root)
