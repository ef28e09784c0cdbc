"""Test-wide set-up: eight CPU devices, and a torchvision that imports beside a CPU build of torch."""

import importlib.metadata
import importlib.util
import os

# Before anything imports jax: meshes are tested on eight devices that are all this CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

_torchvision_library = None
if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
    import torch

    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
        # The wheel of torchvision on PyPI is a CUDA build. Its import only needs these operators to exist.
        _torchvision_library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _torchvision_library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
