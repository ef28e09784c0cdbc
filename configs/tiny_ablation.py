"""The paper's ablation with the embedded model: what 3D windows and global tokens each bring, on two CPU cores.

    gp-jax train --config configs/tiny_ablation.py:baseline --workdir W/baseline --init-from W/2/checkpoint
    gp-jax train --config configs/tiny_ablation.py:est      --workdir W/est      --init-from W/2/checkpoint
    gp-jax train --config configs/tiny_ablation.py:full     --workdir W/full     --init-from W/2/checkpoint

W/2 is the image stage of configs/tiny.py; the three arms see the same segments, canvases and noise, for other ones add
--config.seed=1. Their UNets have 5.44, 5.52 and 5.45 million parameters: where modules are left out, the feed-forward
layers beside them are wider. Tower and extractor, 1.2 million more, run once per segment.
Hardware: one CPU core a run, 3 GB. Step time: 1.5, 1.7 and 1.7 s (120, 128 and 126 GFLOP). Expected result: no arm is
better than another beyond chance; the table is in the card of `gp_jax/checkpoints/tiny`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from gp_jax.training.config import load_config

ARMS = {
    "baseline": {"window": None, "global_tokens": False, "est_multiplier": 3},
    "est": {"global_tokens": False, "est_multiplier": 2},
    "full": {},
}


def get_config(arm: str) -> ConfigDict:
    """`baseline`, `est` or `full`."""
    config = load_config(f"{Path(__file__).with_name('tiny.py')}:keyframes")
    with config.unlocked():
        config.changes.unet.update(ARMS[arm])
        if "global_tokens" in ARMS[arm]:
            config.objective.drop_tokens = 0.0
        config.steps, config.optimizer.warmup, config.log_interval = 300, 30, 20
        config.schedule.shared_noise, config.settings.steps = 0.9, 2
    return config
