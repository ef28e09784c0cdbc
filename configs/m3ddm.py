"""M3DDM at full size, fine-tuned from its public weights or begun from Stable Diffusion 1.5, inpainting or not.

    gp-jax convert M3DDM-Video-Outpainting/ m3ddm/ --vae stable-diffusion-v1-5/
    python tools/build_records.py csv OpenVid/list.csv records --size 128x128
    gp-jax train --config configs/m3ddm.py --workdir W --init-from m3ddm/
    gp-jax outpaint clip.mp4 wide.mp4 --aspect 16:9 --method m3ddm --checkpoint W/checkpoint

From Stable Diffusion, whose image network is placed where M3DDM has its like:

    gp-jax convert stable-diffusion-v1-5/ sd15/
    gp-jax train --config configs/m3ddm.py --workdir W --init-from sd15/

Masks, rate and size are those of M3DDM+ (https://github.com/tamaki-lab/M3DDM-Plus, 20b4495): one mask for all frames of
a window, some of which may be complete. Windows of 16 frames of 128 x 128 pixels, 16 of them per step, one after the
other; the size of M3DDM itself, by records of 256x256 and --config.settings.native_area=65536, takes about four times
as long. Conditions are never dropped, as there; from Stable Diffusion they have to be, since guidance needs it:
--config.objective.drop_global=0.1 --config.objective.drop_all=0.1. Batch norms of the global encoder keep the running
statistics they have; those of a fresh one are 0 and 1.
Hardware: one accelerator of 80 GB, bfloat16. Memory, as `gp-jax bench --on 1` counts it for CPUs, which compute in
float32: 20.8 GB of state and 12.9 GB beside it for a window; 3.25 TFLOP a window. Step time: not measured.
Expected result: not measured.
"""

from ml_collections import ConfigDict

from gp_jax.convert.known import KNOWN
from gp_jax.training.config import default_config


def get_config() -> ConfigDict:
    """There is one stage."""
    config = default_config("m3ddm")
    config.networks = {name: network.to_json() for name, network in KNOWN["m3ddm"].items()}
    config.dtype, config.remat = "bfloat16", "dots"
    config.steps, config.batch_size, config.microbatches = 50_000, 16, 16
    config.data.update(
        {
            "records": ("records",),
            "segment_frames": 16,
            "strides": tuple(range(1, 31)),
            "short": "fewer",
            "known": "m3ddm",
            "ratio_range": (0.15, 0.75),
            "directions": ("m3ddm",),
            "global_frames": 16,
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
    config.settings = {"native_area": 128 * 128, "global_frames": 16}
    config.optimizer.update({"rate": 1e-5, "schedule": "constant", "warmup": 500})
    config.ema = 0.999
    config.checkpoints.interval, config.samples.interval = 1000, 5000
    return config
