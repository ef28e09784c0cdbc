"""How far a narrow type takes a checkpoint from float32, stage by stage, on one clip.

Relative distance, |narrow - float32| / |float32| over all numbers: of the global tokens; of a single call of the
denoiser, given the same noise; of the latents after the first, a middle and the last step of sampling, of all segments,
those between key frames among them; and of the frames, in levels of 255 and dB, where nothing was observed. The
autoencoder is in float32 in both. Of `tiny`, by the first line below, on a CPU:

    global tokens            2.38e-02
    one call                 8.16e-03
    latents after step 1     1.28e-04
    latents after step 13    3.06e-03
    latents after step 25    8.37e-03
    frames                   0.42 levels on average, 8 at most, 50.9 dB

examples:
  python tools/bench_drift.py
  python tools/bench_drift.py --clip clip.mp4 --checkpoint my_model/ --dtype float16 --steps 25 --frames 33
"""

import argparse
from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gp_jax.cli import arguments as parse
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.geometry import Canvas
from gp_jax.methods.globalpaint.conditioning import clip_tokens
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.video.clips import read_clip

DTYPES = ("bfloat16", "float16")


def main() -> None:
    """Prints a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("--clip", default="sample:carphone", metavar="VIDEO", help="what to outpaint to 16:9")
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    parser.add_argument("--dtype", default="bfloat16", choices=DTYPES, help="the narrow type")
    parser.add_argument("--steps", type=parse.count, default=25, metavar="N", help="of sampling")
    parser.add_argument("--frames", type=parse.count, default=33, metavar="N", help="of the clip, its first ones")
    arguments = parser.parse_args()
    frames = read_clip(arguments.clip)[: arguments.frames]
    canvas = Canvas.from_aspect(*frames.shape[1:3], 16 / 9)
    wide, narrow = (
        stages(OutpaintPipeline.from_pretrained(arguments.checkpoint, dtype=dtype), frames, canvas, arguments.steps)
        for dtype in ("float32", arguments.dtype)
    )
    made = wide.pop("frames"), narrow.pop("frames")
    print(f"{arguments.checkpoint}, {arguments.dtype} beside float32, {jax.devices()[0].device_kind}")
    for name, values in wide.items():
        print(f"{name:24} {np.linalg.norm(narrow[name] - values) / np.linalg.norm(values):.2e}")
    new = np.ones((*frames.shape[:1], canvas.height, canvas.width), bool)
    new[(slice(None), *canvas.observed)] = False
    error = made[1][new].astype(np.float64) - made[0][new]
    psnr = 10 * np.log10(255**2 / max(np.mean(error**2), 1e-9))
    print(
        f"{'frames':24} {np.abs(error).mean():.2f} levels on average, {np.abs(error).max():.0f} at most, {psnr:.1f} dB"
    )


def stages(pipeline: OutpaintPipeline, frames: np.ndarray, canvas: Canvas, steps: int) -> dict[str, np.ndarray]:
    """What comes out of each, as float32; the frames as they are."""
    checkpoint, made = pipeline.checkpoint, {}
    rng = np.random.default_rng(0)
    unet, length = checkpoint.unet, checkpoint.settings.segment_frames
    tokens = None
    if (vision := checkpoint.vision) is not None and (extractor := checkpoint.extractor) is not None:
        size, count = vision.config.image_size, vision.config.image_size // vision.config.patch_size
        views = rng.standard_normal((1, length, size, size, 3), np.float32)
        places = np.stack(np.meshgrid(*[np.linspace(-1, 1, count)] * 2, indexing="ij"), -1).reshape(-1, 2)
        times = np.linspace(0, 1, length, dtype=np.float32)[None]
        tokens = jax.jit(clip_tokens)(vision, extractor, views, places.astype(np.float32), times, times >= 0)
        made["global tokens"] = tokens
    sample = rng.standard_normal((1, length, 16, 16, unet.config.in_channels), np.float32)
    text = jnp.zeros((1, 1, unet.config.cross_attention_dim))
    made["one call"] = jax.jit(lambda unet, *x: unet(*x))(unet, sample, jnp.full(1, 500.0), text, tokens)
    after: dict[int, list[Any]] = defaultdict(list)
    video = pipeline(
        frames, canvas, seed=0, steps=steps, on_step=lambda step, latents: after[int(step)].append(np.asarray(latents))
    )
    jax.effects_barrier()  # for the last callbacks
    for step in sorted({0, steps // 2, steps - 1}):
        made[f"latents after step {step + 1}"] = np.concatenate([x.reshape(-1) for x in after[step]])
    return {name: np.asarray(x, np.float32) for name, x in made.items()} | {"frames": np.asarray(video)}


if __name__ == "__main__":
    main()
