"""The paper's ablation at full size: what 3D windows and global tokens each bring. Three key-frame models.

    gp-jax train --config configs/sd2_ablation.py:baseline --workdir W/baseline --init-from sd2/
    gp-jax train --config configs/sd2_ablation.py:est      --workdir W/est      --init-from sd2/
    gp-jax train --config configs/sd2_ablation.py:full     --workdir W/full     --init-from sd2/

    baseline   temporal convolutions and temporal attention, neither 3D windows nor global tokens
    est        with 3D windowed attention
    full       with 3D windowed attention and global tokens: configs/sd2.py

Data: as configs/sd2.py. Hardware: 8 accelerators of 80 GB. Memory and step time: not measured.
Expected result: not measured; the paper reports FVD 373.42, 312.41 and 273.53.
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
    config = load_config(f"{Path(__file__).with_name('sd2.py')}:keyframes")
    with config.unlocked():
        config.changes.unet.update(ARMS[arm])
        if "global_tokens" in ARMS[arm]:
            config.data.feature_frames = 0
            config.objective.update({"drop_text": 0.15, "drop_tokens": 0.0, "drop_both": 0.0})
    return config
