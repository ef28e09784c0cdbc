"""MOTIA's networks compute what diffusers' compute with their norms laid out as MOTIA has them."""

import numpy as np
import pytest
import torch
from diffusers import UNetMotionModel
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D
from torch import nn

from gp_jax.checkpoint.folder import load_parts
from tests import small_motia
from tests.convert.references import close, random, run

FRAMES = 5


class Joint(nn.Module):
    """A group norm over the frames of a clip, [T, C, h, w], together."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def forward(self, x):
        return self.norm(x.transpose(0, 1)[None])[0].transpose(0, 1)


class Single(Joint):
    """A group norm over each frame of clips, [B, C, T, h, w], by itself."""

    def forward(self, x):
        frames = self.norm(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


def as_motia_has_them(network):
    for module in [*network.modules()]:
        if isinstance(module, ResnetBlock2D):
            module.norm1, module.norm2 = Joint(module.norm1), Joint(module.norm2)
        if isinstance(module, AnimateDiffTransformer3D):
            module.norm = Single(module.norm)
    if hasattr(network, "conv_norm_out"):
        network.conv_norm_out = Joint(network.conv_norm_out)
    return network.eval()


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    folder = small_motia.write(tmp_path_factory.mktemp("motia") / "ours")
    return load_parts(folder, "motia", ("unet", "controlnet", "vae", "text"))


def test_the_networks_together_equal_diffusers(parts):
    unet, steering, motion = small_motia.networks()
    video, control = as_motia_has_them(UNetMotionModel.from_unet2d(unet, motion)), as_motia_has_them(steering)
    sample, text, picture = random(1, 4, FRAMES, 8, 6), random(1, 4, 64), random(1, 3, FRAMES, 32, 24)
    with torch.no_grad():
        texts = torch.tensor(text).repeat(FRAMES, 1, 1)
        frames, pictures = (torch.tensor(x[0]).transpose(0, 1) for x in (sample, picture))
        down, middle = control(frames, 371, texts, pictures, return_dict=False)
        theirs = video(
            torch.tensor(sample),
            371,
            texts,
            down_block_additional_residuals=down,
            mid_block_additional_residual=middle,
        ).sample

    def ours(unet, controlnet, sample, picture, text):
        steps = np.array([371])
        return unet(sample, steps, text, residuals=controlnet(sample, steps, text, picture))

    inputs = (x.transpose(0, 2, 3, 4, 1) for x in (sample, picture))
    made = run(ours, parts.networks["unet"], parts.networks["controlnet"], *inputs, text)
    close(made, theirs.permute(0, 2, 3, 4, 1))
    one = run(
        ours,
        parts.networks["unet"],
        parts.networks["controlnet"],
        sample[:, :, :1].transpose(0, 2, 3, 4, 1),
        picture[:, :, :1].transpose(0, 2, 3, 4, 1),
        text,
    )
    assert np.abs(one - made[:, :1]).max() > 0.01  # frames matter to each other
