"""The networks in their real size, once: converted within their memory, and equal to their originals.

pytest -m slow -s tests/convert/test_full_size.py        about 12 GB of memory, 12 GB of disk; prints what it measured
"""

import gc
import resource
import subprocess
import sys
import time

import diffusers
import numpy as np
import pytest
import torch
import transformers

from gp_jax.convert import load
from gp_jax.convert.known import KNOWN
from tests.convert.references import random, run

SD2 = KNOWN["stable-diffusion-2-inpainting"]
GIGABYTE = 1e9
# Prints the peak memory of a conversion in a process of its own, in KiB. (`ru_maxrss` would start at the parent's.)
CONVERT = """
import re, sys
from gp_jax.convert import convert
convert(sys.argv[1], sys.argv[2])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
"""


def unet():
    reference = diffusers.UNet2DConditionModel(
        in_channels=9, cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True
    )
    assert sum(x.numel() for x in reference.parameters()) == 865_925_124
    sample, text, steps = random(1, 9, 32, 32), random(1, 77, 1024), np.array([371])
    theirs = reference(torch.tensor(sample), torch.tensor(steps), torch.tensor(text)).sample
    inputs = sample.transpose(0, 2, 3, 1)[:, None], steps, text
    return reference, theirs.permute(0, 2, 3, 1)[:, None], lambda unet: run(lambda m, *x: m(*x), unet, *inputs)


def vae():
    reference = diffusers.AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    pixels = random(1, 3, 256, 256)
    mean = reference.encode(torch.tensor(pixels)).latent_dist.mean
    theirs = torch.cat([mean.flatten(), reference.decode(mean).sample.permute(0, 2, 3, 1).flatten()])

    def both(vae):
        encoded = run(lambda m, x: m.encode(x)[0], vae, pixels.transpose(0, 2, 3, 1))
        decoded = run(lambda m, x: m.decode(x), vae, mean.permute(0, 2, 3, 1).numpy())
        return np.concatenate([np.asarray(encoded).transpose(0, 3, 1, 2).ravel(), np.asarray(decoded).ravel()])

    return reference, theirs, both


def vision():
    config = SD2["clip"].to_json()
    reference = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**config))
    pixels = random(1, 224, 224, 3)
    theirs = reference(torch.tensor(pixels).permute(0, 3, 1, 2)).last_hidden_state[:, 1:]
    return reference, theirs, lambda tower: run(lambda m, x: m(x, final_norm=False), tower, pixels)


def text():
    config = SD2["text"].to_json()
    reference = transformers.CLIPTextModel(transformers.CLIPTextConfig(**config))
    ids = np.arange(77)[None] + 1000
    theirs = reference(torch.tensor(ids)).last_hidden_state
    return reference, theirs, lambda tower: run(lambda m, x: m(x), tower, ids)


@pytest.mark.slow
# The decoder's own rounding in torch is 1.7e-5, measured against float64 (ours 1.5e-5).
@pytest.mark.parametrize("make, tolerance", [(unet, 1e-5), (vae, 3e-5), (vision, 1e-5), (text, 1e-5)])
@torch.no_grad()
def test_full_size(tmp_path, make, tolerance):
    reference, theirs, compute = make()
    theirs = theirs.numpy().copy()
    reference.save_pretrained(tmp_path / "theirs", max_shard_size="20GB")
    del reference
    gc.collect()
    size = sum(file.stat().st_size for file in (tmp_path / "theirs").iterdir())

    begin = time.monotonic()
    command = [sys.executable, "-c", CONVERT, str(tmp_path / "theirs"), str(tmp_path / "ours")]
    peak = 1024 * int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    seconds = time.monotonic() - begin

    begin = time.monotonic()
    module, _ = load(tmp_path / "ours")
    difference = np.abs(np.asarray(compute(module)) - theirs).max() / np.abs(theirs).max()
    print(
        f"\n{make.__name__}: {size / GIGABYTE:.2f} GB converted in {seconds:.0f} s within {peak / GIGABYTE:.2f} GB, "
        f"loaded and run in {time.monotonic() - begin:.0f} s, difference {difference:.1e} of the largest output, "
        f"peak of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIGABYTE:.1f} GB"
    )
    assert difference < tolerance and peak < size + 2 * GIGABYTE
