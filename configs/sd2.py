"""GlobalPaint at full size on Stable Diffusion 2 inpainting: key frames, then interpolation.

    gp-jax convert stable-diffusion-2-inpainting/ sd2/
    gp-jax convert CLIP-ViT-H-14-laion2B-s32B-b79K/ sd2/ --only clip
    python tools/build_records.py csv OpenVid/list.csv records --size 256x256
    python tools/precompute.py records all --checkpoint sd2/ --frames 16
    gp-jax train --config configs/sd2.py:keyframes --workdir W/1 --init-from sd2/
    gp-jax train --config configs/sd2.py:interpolation --workdir W/2 --init-from W/1/checkpoint
    gp-jax outpaint clip.mp4 wide.mp4 --aspect 16:9 --checkpoint W/2/checkpoint

Segments of 16 frames of 256 x 256 pixels, 64 of them per step, latents and features precomputed
(--config.data.precomputed=False computes them in the step).
Hardware: 8 accelerators of 80 GB, bfloat16, parameters and optimizer state cut into 8 (mesh fsdp=8); on more of them
--config.mesh=data=4,fsdp=8. Memory and step time: not measured; `gp-jax bench` counts them. A call of the network for
a segment takes 16.7 ms on an H200 (`gp-jax bench denoise --config configs/sd2.py:keyframes`). Expected result: not
measured; the paper reports FVD 227.8 on DAVIS under the protocol m3ddm-256.
"""

from ml_collections import ConfigDict

from gp_jax.convert.known import KNOWN
from gp_jax.training.config import STAGES, default_config

MODEL = "stable-diffusion-2-inpainting"


def get_config(stage: str) -> ConfigDict:
    """`keyframes` or `interpolation`."""
    config = default_config(stage)
    denoiser = STAGES[stage].denoiser
    parts = {name: "unet" if name == denoiser else name for name in STAGES[stage].networks}
    config.networks = {name: KNOWN[MODEL][part].to_json() for name, part in parts.items()}
    config.mesh, config.dtype, config.remat = "fsdp=8", "bfloat16", "dots"
    config.batch_size, config.microbatches = 64, 2

    config.data.update(
        {
            "records": ("records",),
            "segment_frames": 16,
            "feature_frames": 16,
            "view_size": 224,
            "view_patch": 14,
            "precomputed": True,
            "text": True,
            "workers": 8,
        }
    )
    config.schedule = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    config.objective.update({"weights": "min_snr", "drop_text": 0.1, "drop_tokens": 0.1, "drop_both": 0.05})
    # New modules at the full rate; what comes from the image model, slowly.
    new = rf"{denoiser}.*(temporal|space_time|stride_embedding|global_)"
    config.optimizer.groups = ((STAGES[stage].frozen, 0.0), (new, 1.0), (denoiser, 0.1))
    config.optimizer.update({"rate": 1e-4, "warmup": 1000})
    config.ema = 0.9999
    config.checkpoints.interval, config.samples.interval = 1000, 5000
    _STAGES[stage](config)
    return config


def _keyframes(config: ConfigDict) -> None:
    config.steps = 60_000
    # Key frames lie as far apart as the clip allows.
    config.data.update({"strides": (4, 8, 12, 16), "paces": (1, 2, 4)})


def _interpolation(config: ConfigDict) -> None:
    config.steps = 30_000
    config.data.update({"strides": (1, 2, 3, 4), "known": "ends"})
    config.optimizer.rate = 5e-5


_STAGES = {"keyframes": _keyframes, "interpolation": _interpolation}
