"""The paper's ablation, small: what 3D windows and global tokens each bring where content leaves and returns.

    gp-jax convert tiny W/0 --only vae
    gp-jax train --config configs/tiny_ablation.py:image    --workdir W/1 --init-from W/0
    gp-jax train --config configs/tiny_ablation.py:baseline --workdir W/baseline-0 --init-from W/1/checkpoint
    gp-jax train --config configs/tiny_ablation.py:est      --workdir W/est-0      --init-from W/1/checkpoint
    gp-jax train --config configs/tiny_ablation.py:full     --workdir W/full-0     --init-from W/1/checkpoint

Records: `data/returning`, of 64 x 64 pixels, by `tools/build_returning_clips.py`. The three arms see the same
segments, canvases and noise; --config.seed=1 gives them other noise and other new modules, --config.data.seed=1 other
segments and canvases. Each learns to make key frames and those between them. Their UNets have 0.81, 0.83 and 0.82
million parameters: where modules are left out, the feed-forward layers beside them are wider. Tower and extractor,
0.2 million more, run once per segment.
Hardware: one CPU core a run, 2 GB. Step time: 0.08 s of the images, 0.15, 0.18 and 0.20 s of the arms, two runs at a
time (4.05, 4.48 and 4.58 GFLOP). Expected result: hierarchical is better than sequential, and no arm better than
another beyond chance; the table is in the card of `gp_jax/checkpoints/tiny`.
"""

from pathlib import Path

from ml_collections import ConfigDict

from gp_jax.training.config import load_config

WIDTH = 48
UNET = {"block_out_channels": (WIDTH,), "cross_attention_dim": WIDTH, "norm_num_groups": 16}
VISION = {"hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_attention_heads": 2}
EXTRACTOR = {"feature_width": WIDTH, "width": WIDTH, "heads": 2, "output_width": WIDTH}
ARMS = {
    "baseline": {"window": None, "global_tokens": False, "est_multiplier": 3},
    "est": {"global_tokens": False, "est_multiplier": 2},
    "full": {},
}


def get_config(arm: str) -> ConfigDict:
    """`image`, or one of the arms `baseline`, `est` and `full`."""
    config = load_config(f"{Path(__file__).with_name('tiny.py')}:{'image' if arm == 'image' else 'keyframes'}")
    with config.unlocked():
        config.data.records = ("data/returning",)
        config.settings.native_area = 64 * 64
        config.log_interval, config.checkpoints.interval, config.validation.interval = 100, 1000, 500
        config.networks.unet.update(UNET)
        if arm == "image":
            config.steps = 3000
        else:
            config.changes.unet.update(ARMS[arm])
            config.networks.clip.update(VISION)
            config.networks.global_tokens.update(EXTRACTOR)
            config.data.update({"strides": (1, 2, 4, 8), "paces": (1,), "known": "m3ddm"})
            config.steps, config.batch_size, config.optimizer.rate = 5000, 2, 1e-3
            config.objective.update({"drop_tokens": 0.0, "sampled_steps": 1})
    return config
