"""The paper's ablation with the embedded model: what 3D windows and global tokens each bring, on two CPU cores.

    gp-jax train --config configs/tiny_ablation.py:baseline --workdir W/baseline --init-from W/2/checkpoint
    gp-jax train --config configs/tiny_ablation.py:est      --workdir W/est      --init-from W/2/checkpoint
    gp-jax train --config configs/tiny_ablation.py:full     --workdir W/full     --init-from W/2/checkpoint

W/2 is the image stage of configs/tiny.py; the three arms see the same segments, canvases and noise.
Hardware: two CPU cores, 4 GB. Step time: not measured. Expected result: not measured.
"""

from pathlib import Path

from ml_collections import ConfigDict

from gp_jax.training.config import load_config

ARMS = {
    "baseline": {"window": None, "global_tokens": False},
    "est": {"global_tokens": False},
    "full": {},
}


def get_config(arm: str) -> ConfigDict:
    """`baseline`, `est` or `full`."""
    config = load_config(f"{Path(__file__).with_name('tiny.py')}:keyframes")
    with config.unlocked():
        config.changes.unet.update(ARMS[arm])
        if "global_tokens" in ARMS[arm]:
            config.objective.drop_tokens = 0.0
    return config
