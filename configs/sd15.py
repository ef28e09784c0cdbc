"""GlobalPaint at full size on Stable Diffusion 1.5 inpainting: as sd2.py, with the smaller text and vision towers.

    gp-jax convert stable-diffusion-inpainting/ sd15/
    gp-jax convert clip-vit-large-patch14/ sd15/ --only clip
    python tools/build_records.py videos films/ records --size 256x256
    python tools/precompute.py records all --checkpoint sd15/ --frames 16
    gp-jax train --config configs/sd15.py:keyframes --workdir W/1 --init-from sd15/
    gp-jax train --config configs/sd15.py:interpolation --workdir W/2 --init-from W/1/checkpoint

AnimateDiff's motion modules can take the place of the temporal attention: convert with
--motion mm_sd_v15_v2.ckpt.
Hardware: as sd2.py, 8 accelerators of 80 GB. Memory and step time: not measured. Expected result: not measured.
"""

from pathlib import Path

from ml_collections import ConfigDict

from gp_jax.convert.known import KNOWN
from gp_jax.training.config import STAGES, load_config

MODEL = "stable-diffusion-inpainting"


def get_config(stage: str) -> ConfigDict:
    """`keyframes` or `interpolation`."""
    config = load_config(f"{Path(__file__).with_name('sd2.py')}:{stage}")
    parts = {name: "unet" if name == STAGES[stage].denoiser else name for name in STAGES[stage].networks}
    with config.unlocked():
        config.networks = {name: KNOWN[MODEL][part].to_json() for name, part in parts.items()}
    return config
