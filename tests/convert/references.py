"""Small reference networks of diffusers, transformers and open_clip with random weights, and their outputs."""

import diffusers
import numpy as np
import open_clip
import torch
import transformers

TOWER = dict(intermediate_size=40, num_hidden_layers=3)
SD2 = dict(
    in_channels=9,
    block_out_channels=(64, 128),
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    layers_per_block=2,
    attention_head_dim=(1, 2),
    cross_attention_dim=64,
    sample_size=64,
    use_linear_projection=True,
)
SD1 = {**SD2, "block_out_channels": (32, 64), "attention_head_dim": 8, "use_linear_projection": False}
# Plain Stable Diffusion (text to image): its input is the latents alone.
UNETS = {"sd2": SD2, "sd1": SD1, "sd2-plain": {**SD2, "in_channels": 4}, "sd1-plain": {**SD1, "in_channels": 4}}
VAE = dict(
    block_out_channels=(32, 64, 64),
    down_block_types=("DownEncoderBlock2D",) * 3,
    up_block_types=("UpDecoderBlock2D",) * 3,
    layers_per_block=1,
)
OPEN_CLIP = {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 21, "layers": 3, "width": 24, "head_width": 8, "patch_size": 7, "mlp_ratio": 1.7},
    "text_cfg": {"context_length": 9, "vocab_size": 50, "width": 24, "heads": 3, "layers": 3},
}


def randomised(module):
    """All parameters random: norms and biases as they are initialised would hide a swapped pair."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 / parameter.shape[-1] ** 0.5) + (parameter.ndim == 1))
    return module.eval()


def unet(name="sd2"):
    return randomised(diffusers.UNet2DConditionModel(**UNETS[name]))


def vae():
    return randomised(diffusers.AutoencoderKL(**VAE))


def vision_tower(cls=transformers.CLIPVisionModelWithProjection, activation="gelu"):
    config = dict(TOWER, hidden_size=24, num_attention_heads=3, projection_dim=10, image_size=21, patch_size=7)
    return randomised(cls(transformers.CLIPVisionConfig(**config, hidden_act=activation)))


def text_tower(cls=transformers.CLIPTextModel, activation="quick_gelu", width=64, tokens=50, length=9):
    config = dict(TOWER, hidden_size=width, num_attention_heads=max(1, width // 64), projection_dim=10)
    config |= dict(vocab_size=tokens, max_position_embeddings=length, eos_token_id=tokens - 1, bos_token_id=tokens - 2)
    return randomised(cls(transformers.CLIPTextConfig(**config, hidden_act=activation)))


def whole_clip():
    parts = dict(vision_config=vision_tower().config.to_dict(), text_config=text_tower().config.to_dict())
    return randomised(transformers.CLIPModel(transformers.CLIPConfig(**parts, projection_dim=10)))


def whole_open_clip(quick_gelu=False, **text):
    config = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], **text}}
    return randomised(open_clip.CLIP(**config, quick_gelu=quick_gelu))


def numpy(tensor):
    return tensor.detach().numpy()


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def assert_unet_equal(ours, reference, channels):
    """One frame; ours may have a wider input, which must then not matter."""
    sample, text, steps = random(2, channels, 8, 6), random(2, 5, 64), np.array([3, 977])
    with torch.no_grad():
        theirs = reference(torch.tensor(sample), torch.tensor(steps), torch.tensor(text)).sample
    wide = np.concatenate([sample, random(2, ours.config.in_channels - channels, 8, 6)], axis=1)
    got = ours(wide.transpose(0, 2, 3, 1)[:, None], steps, text)[:, 0]
    close(got, theirs.permute(0, 2, 3, 1))


def assert_vae_equal(ours, reference):
    pixels, latents = random(2, 3, 16, 24), random(2, 4, 4, 6)
    with torch.no_grad():
        moments = reference.encode(torch.tensor(pixels)).latent_dist
        decoded = reference.decode(torch.tensor(latents)).sample
    mean, log_variance = ours.encode(pixels.transpose(0, 2, 3, 1))
    close(mean, moments.mean.permute(0, 2, 3, 1))
    close(log_variance, moments.logvar.permute(0, 2, 3, 1))
    close(ours.decode(latents.transpose(0, 2, 3, 1)), decoded.permute(0, 2, 3, 1))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), atol=1e-5, rtol=1e-5)
