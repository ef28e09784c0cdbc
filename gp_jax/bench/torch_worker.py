"""The process that `torch_process.py` starts: a task as JSON on its input, an outcome a line on its output.

    {"what": "denoise", "network": {...}, "batch": 1, "volume": [16, 32, 32], "text": 77, "tokens": 64, ...}
    -> {"mode": "eager", "device": "NVIDIA H100 80GB HBM3", "seconds": [0.026, ...], "first": 1.2, "peak": 3141592653}
    -> {"mode": "compile", "error": "torch.compile needs a C++ compiler, and there is none"}

Image networks are diffusers' `UNet2DConditionModel`, video networks those of torch_network.py; maps are in
channels_last, convolutions tuned, and products of float32 may be in TF32, as XLA has them. A step is the network's
forward and backward pass and AdamW, its parameters in float32 under autocast; there is no moving average, which ours
has.
"""

import gc
import importlib.metadata
import importlib.util
import inspect
import json
import shutil
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gp_jax.bench.torch_network import UNet
from gp_jax.errors import UserError
from gp_jax.models.unet_config import UNetConfig


def main() -> None:
    task = json.load(sys.stdin)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    operators = operators_of_torchvision()  # noqa: F841 - they last as long as the name
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    for mode in task["modes"]:
        outcome = {"mode": mode, "device": name, "torch": torch.__version__}
        try:
            outcome |= measure(task, device, mode)
        except (RuntimeError, UserError, ImportError) as error:
            outcome["error"] = why(error, mode)
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
        print(json.dumps(outcome), flush=True)


def operators_of_torchvision() -> torch.library.Library | None:
    """PyPI's torchvision, which diffusers imports, is a CUDA build: beside a CPU torch it lacks two operators."""
    if not importlib.util.find_spec("torchvision") or torch.version.cuda is not None:
        return None
    if "+cpu" in importlib.metadata.version("torchvision"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def why(error: Exception, mode: str) -> str:
    """In one sentence."""
    compilers = ("g++", "c++", "clang++", "gcc", "cc", "clang")
    if mode == "compile" and not any(map(shutil.which, compilers)):
        return "torch.compile needs a C++ compiler, and there is none"
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:150]}"


def measure(task: dict[str, Any], device: str, mode: str) -> dict[str, Any]:
    """Seconds of the first call and of those that count, the most memory in use, and of metrics their values."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    call = CALLS[task["what"]](task, device, mode)

    def timed() -> float:
        begin = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    first = timed()
    for _ in range(task["warm_up"]):
        timed()
    seconds = [timed() / task["parts"] for _ in range(task["repeats"])]
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    values = call().reshape(-1).tolist() if task["what"] == "metrics" else None
    return {"first": first, "seconds": seconds, "peak": peak, "values": values}


def denoising(task: dict[str, Any], device: str, mode: str) -> Callable[[], Any]:
    """Calls of the network one behind the other, without gradients, all of it in the task's type."""
    dtype = getattr(torch, task["dtype"])
    network = build(task, device).to(dtype).eval().requires_grad_(False)
    run = torch.compile(network) if mode == "compile" else network
    inputs = arguments(task, device, dtype)

    def call() -> None:
        with torch.no_grad():
            for _ in range(task["parts"]):
                run(*inputs)

    return call


def training(task: dict[str, Any], device: str, mode: str) -> Callable[[], Any]:
    """The network forwards and backwards, and AdamW."""
    network = build(task, device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=device == "cuda")
    run = torch.compile(network) if mode == "compile" else network
    inputs = arguments(task, device, torch.float32)
    narrow = task["dtype"] != "float32"
    target = torch.randn(len(inputs[0]), task["network"]["out_channels"], *inputs[0].shape[2:], device=device)

    def call() -> None:
        with torch.autocast(device, getattr(torch, task["dtype"]) if narrow else None, enabled=narrow):
            made = run(*inputs)
        F.mse_loss(made.float(), target).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return call


def scoring(task: dict[str, Any], device: str, mode: str) -> Callable[[], Any]:
    """The metric of that name, as it is used."""
    from gp_jax.bench.torch_metrics import calls  # needs packages of its own

    metric = calls(task["clips"], task["frames"], device)[mode]()

    def call() -> Any:
        with torch.inference_mode():
            return metric()

    return call


def recording(task: dict[str, Any], device: str, mode: str) -> Callable[[], Any]:
    """What is recorded of the denoiser, from files to a file."""
    from gp_jax.bench.torch_record import recorded

    return recorded(task, device)


CALLS = {"denoise": denoising, "step": training, "metrics": scoring, "record": recording}


def build(task: dict[str, Any], device: str) -> nn.Module:
    """The network with random weights."""
    config = UNetConfig.from_json(task["network"])
    with torch.device(device):
        network = UNet(config, tuple(task["volume"])) if config.temporal else Image(task["network"], task["volume"][0])
    laid_out: Any = network.to(device)  # tables of windows came from numpy
    return laid_out.to(memory_format=torch.channels_last)


class Image(nn.Module):
    """diffusers' network, called as the other is."""

    def __init__(self, config: dict[str, Any], frames: int):
        super().__init__()
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        known = inspect.signature(UNet2DConditionModel.__init__).parameters
        self.network = UNet2DConditionModel(**{key: value for key, value in config.items() if key in known})
        self.frames = frames

    def forward(self, sample: Tensor, timesteps: Tensor, text: Tensor, tokens: None, frames: Tensor) -> Tensor:
        timesteps, text = (x.repeat_interleave(self.frames, dim=0) for x in (timesteps, text))
        return self.network(sample, timesteps, text, return_dict=False)[0]


def arguments(task: dict[str, Any], device: str, dtype: torch.dtype) -> tuple:
    """Random arguments of `UNet.forward`."""
    config, batch, (frames, height, width) = task["network"], task["batch"], task["volume"]
    options = {"device": device, "dtype": dtype}
    sample = torch.randn(batch * frames, config["in_channels"], height, width, **options)
    tokens = torch.randn(batch, task["tokens"], config["cross_attention_dim"], **options) if task["tokens"] else None
    return (
        sample.contiguous(memory_format=torch.channels_last),
        torch.full((batch,), 500, device=device),
        torch.randn(batch, task["text"], config["cross_attention_dim"], **options),
        tokens,
        torch.arange(frames, device=device).expand(batch, frames),
    )


if __name__ == "__main__":
    main()
