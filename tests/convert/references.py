"""Small reference networks of diffusers, transformers and open_clip with random weights, and their outputs."""

import dataclasses
import json

import diffusers
import jax
import numpy as np
import open_clip
import torch
import transformers
from safetensors.numpy import save_file

TOWER = {"intermediate_size": 40, "num_hidden_layers": 3}
SD2 = {
    "in_channels": 9,
    "block_out_channels": (64, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "attention_head_dim": (1, 2),
    "cross_attention_dim": 64,
    "sample_size": 64,
    "use_linear_projection": True,
}
SD1 = SD2 | {
    "block_out_channels": (32, 64),
    "attention_head_dim": 8,
    "use_linear_projection": False,
    "layers_per_block": 2,
}
# Plain Stable Diffusion (text to image): its input is the latents alone.
UNETS = {"sd2": SD2, "sd1": SD1, "sd2-plain": {**SD2, "in_channels": 4}, "sd1-plain": {**SD1, "in_channels": 4}}
VAE = {
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
}
OPEN_CLIP = {
    "embed_dim": 10,
    "vision_cfg": {"image_size": 21, "layers": 3, "width": 24, "head_width": 8, "patch_size": 7, "mlp_ratio": 1.7},
    "text_cfg": {"context_length": 9, "vocab_size": 50, "width": 24, "heads": 3, "layers": 3},
}


def randomised(module):
    """All parameters random: norms and biases as they are initialised would hide a swapped pair."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim < 2:
                parameter.copy_(0.1 * torch.randn_like(parameter) + name.endswith("weight"))
            else:
                parameter.copy_(torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    return module.eval()


def unet(name="sd2"):
    return randomised(diffusers.UNet2DConditionModel(**UNETS[name]))


def controlnet():
    shared = {key: value for key, value in SD1.items() if key not in ("up_block_types", "sample_size", "in_channels")}
    return randomised(diffusers.ControlNetModel(**shared, conditioning_embedding_out_channels=(8, 16, 24, 32)))


def vae():
    return randomised(diffusers.AutoencoderKL(**VAE))


def vision_tower(cls=transformers.CLIPVisionModelWithProjection, activation="gelu", width=24, layers=3):
    config = dict(TOWER, hidden_size=width, num_hidden_layers=layers, num_attention_heads=width // 8)
    config |= {"projection_dim": 10, "image_size": 21, "patch_size": 7}
    return randomised(cls(transformers.CLIPVisionConfig(**config, hidden_act=activation)))


def text_tower(cls=transformers.CLIPTextModel, activation="quick_gelu", width=64, tokens=50, length=9):
    config = dict(TOWER, hidden_size=width, num_attention_heads=max(1, width // 64), projection_dim=10)
    config |= {
        "vocab_size": tokens,
        "max_position_embeddings": length,
        "eos_token_id": tokens - 1,
        "bos_token_id": tokens - 2,
    }
    return randomised(cls(transformers.CLIPTextConfig(**config, hidden_act=activation)))


def whole_clip():
    parts = {"vision_config": vision_tower().config.to_dict(), "text_config": text_tower().config.to_dict()}
    return randomised(transformers.CLIPModel(transformers.CLIPConfig(**parts, projection_dim=10)))


def whole_open_clip(quick_gelu=False, **text):
    config = {**OPEN_CLIP, "text_cfg": {**OPEN_CLIP["text_cfg"], **text}}
    return randomised(open_clip.CLIP(**config, quick_gelu=quick_gelu))


IMAGE = {"temporal": False, "global_tokens": False}


def save_unet(reference, folder, **ours):
    """As diffusers saves it, with keys of ours in its config: by default, no video modules."""
    reference.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | (ours or IMAGE)))


def numpy(tensor):
    return tensor.detach().numpy()


def random(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def run(function, *arguments):
    """Compiled, but not optimised, which would take longer than the work."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0})(*arguments)


def assert_unet_equal(ours, reference, channels):
    """One frame; ours may have a wider input, which must then not matter."""
    sample, text, steps = random(2, channels, 8, 6), random(2, 5, 64), np.array([3, 977])
    with torch.no_grad():
        theirs = reference(torch.tensor(sample), torch.tensor(steps), torch.tensor(text)).sample
    wide = np.concatenate([sample, random(2, ours.config.in_channels - channels, 8, 6)], axis=1)
    got = run(lambda unet, *inputs: unet(*inputs), ours, wide.transpose(0, 2, 3, 1)[:, None], steps, text)[:, 0]
    close(got, theirs.permute(0, 2, 3, 1))


def assert_vae_equal(ours, reference):
    pixels, latents = random(2, 3, 16, 24), random(2, 4, 4, 6)
    with torch.no_grad():
        moments = reference.encode(torch.tensor(pixels)).latent_dist
        decoded = reference.decode(torch.tensor(latents)).sample
    mean, log_variance = run(lambda vae, x: vae.encode(x), ours, pixels.transpose(0, 2, 3, 1))
    close(mean, moments.mean.permute(0, 2, 3, 1))
    close(log_variance, moments.logvar.permute(0, 2, 3, 1))
    again = run(lambda vae, x: vae.decode(x), ours, latents.transpose(0, 2, 3, 1))
    close(again, decoded.permute(0, 2, 3, 1))


def close(ours, theirs):
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), atol=1e-5, rtol=1e-5)


def save_open_clip(model, folder, quick_gelu=False):
    """As open_clip's `push_to_hf_hub` lays a model out."""
    folder.mkdir()
    save_file({name: numpy(x).copy() for name, x in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    preprocess = dataclasses.asdict(open_clip.transform.PreprocessCfg(size=OPEN_CLIP["vision_cfg"]["image_size"]))
    config = {"model_cfg": {**OPEN_CLIP, "quick_gelu": quick_gelu}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))


def single_file_text(family):
    """The text tower as LDM holds it: of transformers in version 1, half of an open_clip model in version 2."""
    if family == "sd1":
        return WithPrefix(text_tower())
    clip = whole_open_clip(width=64, heads=1)
    del clip.visual, clip.logit_scale
    return clip


class WithPrefix(torch.nn.Module):
    """`text_model.` before every name, as transformers wrote before version 5."""

    def __init__(self, tower):
        super().__init__()
        self.text_model = tower

    def forward(self, ids):
        return self.text_model(ids)


def single_file_text_output(family, text, ids):
    """As Stable Diffusion uses it: the last output in version 1, the penultimate one, normed, in version 2."""
    with torch.no_grad():
        if family == "sd1":
            return text(torch.tensor(ids)).last_hidden_state
        x, mask = text.token_embedding(torch.tensor(ids)), text.attn_mask[: ids.shape[1], : ids.shape[1]]
        x = x + text.positional_embedding[: ids.shape[1]]
        for block in text.transformer.resblocks[:-1]:
            x = block(x, attn_mask=mask)
        return text.ln_final(x)


def tokenizer(folder):
    """Bytes for letters, and two merges: enough to read "a cat"."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [chr(c) for c in range(ord("a"), ord("z") + 1)]
    words = [*letters, *(c + "</w>" for c in letters), "ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    return transformers.CLIPTokenizer.from_pretrained(folder, model_max_length=9)


def save_pipeline(folder, family="sd2"):
    """A whole diffusers folder, saved by diffusers."""
    words = tokenizer(folder.with_name(f"{folder.name}-words"))
    diffusers.StableDiffusionInpaintPipeline(
        vae=vae(),
        text_encoder=text_tower(tokens=len(words)),
        tokenizer=words,
        unet=unet(family),
        scheduler=diffusers.DDIMScheduler(
            beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, clip_sample=False
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
