"""The denoiser's stages of a record, by torch: weights and arguments come in files, and the outputs go into one.

FOLDER/weights.npz, call.npz, steps.npz  ->  FOLDER/made.npz: call [B, T, h, w, C], steps [S, B, T, h, w, C]

Written from the formulas, not from gp_jax: one step of a sampler as diffusion/samplers.py states it, guidance as
diffusion/guidance.py does, each branch in a call of its own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gp_jax.bench.torch_network import UNet, state_dict_of
from gp_jax.models.unet_config import UNetConfig

Denoise = Callable[..., Tensor]
COLUMNS = ("timestep", "noisy_to_clean", "prediction_to_clean", "keep", "clean_weight")


def recorded(task: Mapping[str, Any], device: str) -> Callable[[], None]:
    """What makes made.npz anew each time it is called; see record.py for the task."""
    folder, dtype = Path(task["folder"]), getattr(torch, task["dtype"])
    network = UNet(UNetConfig.from_json(task["network"]), tuple(task["volume"]))
    network.load_state_dict(state_dict_of(_read(folder / "weights.npz")))
    laid_out: Any = network.to(device=device, dtype=dtype).eval()
    network = laid_out.to(memory_format=torch.channels_last)
    call, steps = (
        {k: torch.from_numpy(x).to(device) for k, x in _read(folder / f"{name}.npz").items()}
        for name in ("call", "steps")
    )

    def denoise(sample: Tensor, times: Tensor, text: Tensor, tokens: Tensor | None, frames: Tensor) -> Tensor:
        batch = len(sample)
        maps = sample.flatten(0, 1).permute(0, 3, 1, 2).to(dtype).contiguous(memory_format=torch.channels_last)
        text, tokens = text.to(dtype), None if tokens is None else tokens.to(dtype)
        made = network(maps, times, text, tokens, frames).float()
        return made.permute(0, 2, 3, 1).unflatten(0, (batch, -1))

    def run() -> None:
        with torch.no_grad():
            one = denoise(call["sample"], call["timesteps"], call["text"], call.get("tokens"), call["frames"])
            several = sampled(denoise, steps, *task["scales"])
        np.savez(folder / "made.npz", call=one.cpu().numpy(), steps=several.cpu().numpy())

    return run


def sampled(denoise: Denoise, given: Mapping[str, Tensor], token_scale: float, text_scale: float) -> Tensor:
    """[S, B, T, h, w, C], latents after each step; `given`: conditions, first latents, and columns of the sampler."""
    latents, text, null, tokens = (given.get(name) for name in ("latents", "text", "null_text", "tokens"))
    assert latents is not None and null is not None
    nothing = None if tokens is None else torch.zeros_like(tokens)
    token_scale, text_scale = token_scale if tokens is not None else 1.0, text_scale if text is not None else 0.0
    branches = [(1 - token_scale, null, nothing), (token_scale - text_scale, null, tokens), (text_scale, text, tokens)]
    made = []
    for step in range(len(given["timestep"])):
        row = {name: given[name][step] for name in COLUMNS}
        sample = torch.cat([latents, given["mask"], given["masked"]], dim=-1)
        times = row["timestep"].expand(len(sample))
        prediction = sum(
            weight * denoise(sample, times, words, seen, given["frames"]) for weight, words, seen in branches if weight
        )
        clean = row["noisy_to_clean"] * latents + row["prediction_to_clean"] * prediction
        latents = row["keep"] * latents + row["clean_weight"] * clean
        made.append(latents)
    return torch.stack(made)


def _read(path: Path) -> dict[str, np.ndarray]:
    return dict(np.load(path, allow_pickle=False))
