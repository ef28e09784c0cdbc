"""The embedded model `tiny`: five stages from scratch, each started from the one before.

    gp-jax train --config configs/tiny.py:autoencoder   --workdir W/1
    gp-jax train --config configs/tiny.py:image         --workdir W/2 --init-from W/1/checkpoint
    gp-jax train --config configs/tiny.py:keyframes     --workdir W/3 --init-from W/2/checkpoint
    gp-jax train --config configs/tiny.py:sharp         --workdir W/4 --init-from W/3/checkpoint
    gp-jax train --config configs/tiny.py:sharp_interpolation --workdir W/5 --init-from W/4/checkpoint
    gp-jax outpaint sample:carphone wide.mp4 --aspect 16:9 --checkpoint W/5/checkpoint

The last two need `gp-jax fetch` once. Without it, one stage after the key frames gives a softer model:
    gp-jax train --config configs/tiny.py:interpolation --workdir W/4 --init-from W/3/checkpoint

Records: `data/72x128`, `data/128x72` and `data/96x96` below the current folder, built from what
`tools/fetch_training_data.py` fetches; others by --config.data.records="('A','B')".
Hardware: two CPU cores, 7 GB. Step time: 1.1, 0.55, 1.5, 1.3 to 1.9 and 1.1 s, the last two on two forced devices.
Expected result: that of `gp_jax/checkpoints/tiny`, whose card tells where its training departed from these steps.
"""

from ml_collections import ConfigDict

from gp_jax.training.config import default_config

WIDTH, LATENTS, SEGMENT = 128, 32, 8

AUTOENCODER = {
    "block_out_channels": (32, 64, 128),
    "layers_per_block": 1,
    "patch_size": 2,
    "norm_num_groups": 8,
    "latent_channels": LATENTS,
    "linear_latents": True,
    "scaling_factor": 1.0,
}
IMAGE_UNET = {
    "in_channels": 2 * LATENTS + 1,
    "out_channels": LATENTS,
    "block_out_channels": (WIDTH,),
    "down_block_types": ("CrossAttnDownBlock2D",),
    "up_block_types": ("CrossAttnUpBlock2D",),
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "cross_attention_dim": WIDTH,
    "use_linear_projection": True,
    "temporal": False,
    "window": None,
    "global_tokens": False,
}
# What turns it into the video network.
VIDEO = {"temporal": True, "window": (8, 4, 4), "est_multiplier": 1, "global_tokens": True, "masked_fill": "edge"}
VISION = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": 64,
    "patch_size": 16,
    "projection_dim": None,
}
EXTRACTOR = {"feature_width": 128, "width": 128, "tokens": 16, "layers": 2, "heads": 4, "output_width": WIDTH}

NETWORKS = {
    "vae": AUTOENCODER,
    "unet": IMAGE_UNET,
    "interpolation_unet": {**IMAGE_UNET, **VIDEO},
    "clip": VISION,
    "global_tokens": EXTRACTOR,
}


def get_config(stage: str) -> ConfigDict:
    """`autoencoder`, `image`, `keyframes`, `interpolation`; by how frames look: `sharp`, `sharp_interpolation`."""
    config = default_config({"sharp": "keyframes", "sharp_interpolation": "interpolation"}.get(stage, stage))
    config.networks = {name: NETWORKS[name] for name in config.networks}
    config.data.records = ("data/72x128", "data/128x72", "data/96x96")
    config.data.ratio_range = (0.15, 0.7)
    config.data.segment_frames = 1
    config.schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": "sample",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "shared_noise": 1.0,
    }
    config.settings = {
        "native_area": 72 * 128,
        "segment_frames": SEGMENT,
        "sampler": "ddim",
        "steps": 1,
        "text_guidance": 1.0,
    }
    config.optimizer.update({"warmup": 100, "final": 0.02, "b2": 0.99, "weight_decay": 1e-3})
    config.log_interval = config.checkpoints.interval = config.validation.interval = 100
    config.ema, config.validation.batches = 0.995, 12
    {function.__name__: function for function in _STAGES}[f"_{stage}"](config)
    return config


def _autoencoder(config: ConfigDict) -> None:
    config.objective.update({"kl": 0.0, "jitter": 0.2})
    config.optimizer.groups = (("vae.encoder", 0.0),)  # principal components, which are computed
    config.steps, config.batch_size, config.optimizer.rate = 1200, 16, 1e-3


def _image(config: ConfigDict) -> None:
    config.steps, config.batch_size, config.optimizer.rate = 1500, 16, 1e-3
    config.objective.update({"drop_text": 0.0, "drop_tokens": 0.0, "drop_both": 0.0})


def _keyframes(config: ConfigDict) -> None:
    config.changes.unet = VIDEO
    config.optimizer.groups = (("vae", 0.0),)  # the vision tower is trained along
    config.data.update({"strides": (2, 4, 7, 8), "paces": (1, 2, 4, 8)})
    config.steps, config.optimizer.rate = 1800, 8e-4
    _segments(config)


def _sharp(config: ConfigDict) -> None:
    _keyframes(config)
    config.optimizer.groups = ((r"vae\.encoder", 0.0),)  # the decoder learns what to make of guesses
    config.data.update({"strides": (1, 1, 2, 4, 7, 8), "paces": (1, 1, 2, 4), "known": "m3ddm"})
    _by_looks(config, 4000, 3e-4, 0.995)


def _sharp_interpolation(config: ConfigDict) -> None:
    _interpolation(config)
    _by_looks(config, 120, 1e-4, 0.99)


def _by_looks(config: ConfigDict, steps: int, rate: float, ema: float) -> None:
    config.steps, config.batch_size, config.optimizer.rate, config.ema = steps, 2, rate, ema
    config.objective.update({"perceptual": 1.0, "structural": 1.0, "flicker": 2.0, "sampled_steps": 1})
    config.settings.native_area = 128 * 128  # a third finer than the records: cells shrink, and FVD by a fifth


def _interpolation(config: ConfigDict) -> None:
    config.data.update({"strides": (1, 1, 2, 3), "paces": (1, 1, 2, 4), "known": "ends"})
    config.steps, config.optimizer.rate = 250, 5e-4
    _segments(config)


def _segments(config: ConfigDict) -> None:
    config.batch_size = 4
    config.data.update({"segment_frames": SEGMENT, "feature_frames": SEGMENT, "view_size": 64, "view_patch": 16})
    config.objective.update({"drop_text": 0.0, "drop_tokens": 0.1, "drop_both": 0.0})


_STAGES = (_autoencoder, _image, _keyframes, _interpolation, _sharp, _sharp_interpolation)
