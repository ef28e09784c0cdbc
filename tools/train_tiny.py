"""Trains the embedded model `tiny` from scratch: four stages, each resumable, each one command.

    python tools/fetch_training_data.py --data DATA && python tools/build_tiny_clips.py --data DATA --out DATA/clips
    python tools/train_tiny.py autoencoder   --clips DATA/clips --workdir W --steps 1000 --rate 1.5e-3
    python tools/train_tiny.py image         --clips DATA/clips --workdir W --steps 1100 --rate 1.2e-3
    python tools/train_tiny.py keyframes     --clips DATA/clips --workdir W --steps 1000
    python tools/train_tiny.py interpolation --clips DATA/clips --workdir W --steps 300 --rate 5e-4
    python tools/train_tiny.py export        --clips DATA/clips --workdir W --output gp_jax/checkpoints/tiny

The stages build on each other as the paper's do: an autoencoder; an image-inpainting UNet on its latents; that UNet
grown into a video network (EST modules and global tokens, which start as the identity) together with vision tower and
extractor; the interpolation model, fine-tuned from it. A stage that was stopped goes on where its last checkpoint is;
what a step sees depends on the step's number alone. Losses and held-out losses go to `W/STAGE.jsonl`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx
from PIL import Image

from gp_jax import weights
from gp_jax.convert.formats import COMPONENTS
from gp_jax.diffusion.losses import drop_conditions, sample_timesteps, training_loss
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.geometry import latent_mask, patch_positions, pixel_mask, sample_canvas
from gp_jax.models.autoencoder import AutoencoderConfig, AutoencoderKL
from gp_jax.models.clip import VisionConfig, VisionTower, preprocess
from gp_jax.models.global_tokens import GlobalTokens, GlobalTokensConfig
from gp_jax.models.unet import UNet, UNetConfig
from gp_jax.pipelines.checkpoint import Settings
from gp_jax.pipelines.conditioning import clip_tokens, encode, inpainting_condition, to_float

SEGMENT = 8
WIDTH = 96
SHAPES = ((72, 128), (128, 72), (96, 96))
STRIDES = {"keyframes": (2, 4, 7, 8), "interpolation": (1, 1, 2, 3)}
# Key frames of a long clip lie further apart than these 57 frames allow. Slow footage with its frame numbers
# multiplied stands in for it.
PACES = {"keyframes": (1, 2, 4, 8), "interpolation": (1, 1, 2, 4)}
CLIPS_PER_STEP = {"image": 16, "keyframes": 2, "interpolation": 2}
SCHEDULE = NoiseSchedule(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    rescale_betas_zero_snr=True,
    timestep_spacing="trailing",
)
AUTOENCODER = AutoencoderConfig(
    in_channels=3, out_channels=3, block_out_channels=(96, 96), layers_per_block=1, patch_size=4
)
UNET = UNetConfig(
    block_out_channels=(WIDTH, WIDTH),
    down_block_types=("CrossAttnDownBlock2D",) * 2,
    up_block_types=("CrossAttnUpBlock2D",) * 2,
    layers_per_block=1,
    attention_head_dim=3,
    cross_attention_dim=WIDTH,
    window=(8, 4, 4),
    est_multiplier=1,
)
IMAGE_UNET = UNetConfig.from_json(UNET.to_json() | {"temporal": False, "window": None, "global_tokens": False})
VISION = VisionConfig(
    hidden_size=128,
    intermediate_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=64,
    patch_size=16,
    projection_dim=None,
)
EXTRACTOR = GlobalTokensConfig(feature_width=128, width=128, tokens=16, layers=2, heads=4, output_width=WIDTH)
NULL_TEXT = jnp.zeros((1, 1, WIDTH))


class Clips:
    """The clips of one shape; batches are made from a random generator alone."""

    def __init__(self, folder: Path, shape: tuple[int, int], split: str):
        name = f"clips_{shape[0]}x{shape[1]}"
        entries = json.loads((folder / f"{name}.json").read_text())
        self.frames = np.load(folder / f"{name}.npy", mmap_mode="r")
        self.members = [i for i, entry in enumerate(entries) if entry["split"] == split]

    def images(self, rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
        """`pixels` [N, H, W, 3] uint8."""
        frames = [self.frames[rng.choice(self.members), rng.integers(self.frames.shape[1])] for _ in range(count)]
        return {"pixels": np.stack([frame[:, :: rng.choice((-1, 1))] for frame in frames])}

    def segments(self, rng: np.random.Generator, count: int, length: int, strides: tuple, paces: tuple) -> dict:
        """A batch of segments, each with one canvas, and the tower's view of the observed rectangle all over the
        clip."""
        return jax.tree.map(lambda *x: np.stack(x), *(self._segment(rng, length, strides, paces) for _ in range(count)))

    def _segment(self, rng: np.random.Generator, length: int, strides: tuple, paces: tuple) -> dict[str, np.ndarray]:
        clip = self.frames[rng.choice(self.members)][:, :, :: rng.choice((-1, 1))]
        total, height, width, _ = clip.shape
        stride = min(rng.choice(strides), (total - 1) // max(length - 1, 1))
        frames = rng.integers(total - stride * (length - 1)) + stride * np.arange(length)
        canvas = sample_canvas(rng, height, width, (0.15, 0.6))
        seen = np.sort(rng.choice(total, SEGMENT, replace=False))
        rows, columns = canvas.observed
        size = (VISION.image_size, VISION.image_size)
        views = [Image.fromarray(clip[i, rows, columns]).resize(size, Image.Resampling.BICUBIC) for i in seen]
        return {
            "pixels": np.ascontiguousarray(clip[frames]),
            "frames": frames * rng.choice(paces),
            "pixel_mask": pixel_mask(canvas),
            "latent_mask": latent_mask(canvas, AUTOENCODER.downsampling),
            "views": np.stack([np.asarray(view) for view in views]),
            "positions": np.broadcast_to(
                patch_positions(canvas, VISION.image_size // VISION.patch_size)[None], (SEGMENT, VISION.patches, 2)
            ),
            "times": (seen / (total - 1)).astype(np.float32),
        }


def autoencoder_loss(models: dict, frozen: dict, batch: dict, key: jax.Array) -> jax.Array:
    """L1 on pixels and on differences of neighbours (edges), and a faint pull of the latents to the unit normal."""
    vae = models["vae"]
    pixels = to_float(batch["pixels"])
    mean, log_variance = vae.encode(pixels)
    decoded = vae.decode(mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape))
    kl = 0.5 * jnp.mean(mean**2 + jnp.exp(log_variance) - 1.0 - log_variance)
    error = decoded - pixels
    edges = sum(jnp.mean(jnp.abs(jnp.diff(error, axis=axis))) for axis in (1, 2))
    return jnp.mean(jnp.abs(error)) + 0.5 * edges + 1e-3 * kl


def diffusion_loss(models: dict, frozen: dict, batch: dict, key: jax.Array) -> jax.Array:
    """The inpainting objective, for all three diffusion stages; `frozen` may hold networks that `models` does not."""
    models = frozen | models
    unet, vae = models["unet"], models["vae"]
    noise_key, time_key, drop_key = jax.random.split(key, 3)
    pixels = to_float(batch["pixels"])
    count, length = pixels.shape[:2]

    # Frames that are already complete, as the boundary frames of an interpolation segment are.
    known = jnp.zeros((count, length), bool)
    if "boundary" in batch:
        known = known.at[:, jnp.array([0, -1])].set(True)
    clean = encode(vae, pixels)
    mask, masked = inpainting_condition(vae, pixels, batch["pixel_mask"], batch["latent_mask"], known, clean)
    noise = jax.random.normal(noise_key, clean.shape)
    t = sample_timesteps(time_key, count, SCHEDULE)
    sample = jnp.concatenate([SCHEDULE.add_noise(clean, noise, t), mask, masked], axis=-1)

    text, tokens = jnp.broadcast_to(NULL_TEXT, (count, *NULL_TEXT.shape[1:])), None
    if "clip" in models:
        views = to_float(batch["views"])
        views = preprocess(views.reshape(-1, *views.shape[2:]), VISION.image_size).reshape(views.shape)
        valid = jnp.ones(batch["times"].shape, bool)
        tokens = clip_tokens(models["clip"], models["global_tokens"], views, batch["positions"], batch["times"], valid)
        text, tokens = drop_conditions(drop_key, text, text, tokens, p_text=0.0, p_tokens=0.1, p_both=0.0)
    prediction = unet(sample, t, text, tokens, batch["frames"])
    return jnp.mean(training_loss(SCHEDULE, prediction, clean, noise, t))


def fit(
    stage: str,
    models: dict[str, nnx.Module],
    frozen: dict[str, nnx.Module],
    loss: Callable,
    make_batch: Callable[[np.random.Generator, int, str], dict],
    *,
    workdir: Path,
    steps: int,
    rate: float,
) -> dict[str, nnx.Module]:
    """Adam with warm-up and cosine decay; returns the networks with averaged parameters (EMA)."""
    graphs = {name: nnx.split(model)[0] for name, model in models.items()}
    params = {name: nnx.split(model)[1] for name, model in models.items()}
    fixed = {name: nnx.split(model) for name, model in frozen.items()}
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(100, steps // 10), steps, 0.02 * rate)
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(schedule, b2=0.99, weight_decay=1e-3))

    def compute(params, fixed_states, batch, key):
        merged = {name: nnx.merge(graphs[name], params[name]) for name in params}
        return loss(merged, {name: nnx.merge(fixed[name][0], fixed_states[name]) for name in fixed}, batch, key)

    def advance(state, fixed_states, batch):
        key = jax.random.fold_in(jax.random.key(1), state["step"])
        value, gradient = jax.value_and_grad(compute)(state["params"], fixed_states, batch, key)
        updates, moments = optimizer.update(gradient, state["moments"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        decay = jnp.minimum(0.998, (1.0 + state["step"]) / (10.0 + state["step"]))
        average = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, state["average"], params)
        return {"params": params, "moments": moments, "average": average, "step": state["step"] + 1}, value

    advance, evaluate = jax.jit(advance, donate_argnums=0), jax.jit(compute)
    fixed_states = {name: split[1] for name, split in fixed.items()}
    state = {"params": params, "moments": optimizer.init(params), "step": jnp.int32(0)}
    state["average"] = jax.tree.map(jnp.copy, params)
    held_out = [make_batch(np.random.default_rng([7, index]), index, "validation") for index in range(6)]

    with ocp.CheckpointManager(
        (workdir / stage).resolve(), options=ocp.CheckpointManagerOptions(max_to_keep=2)
    ) as manager:
        if manager.latest_step() is not None:
            abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
            state = manager.restore(manager.latest_step(), args=ocp.args.StandardRestore(abstract))
        first, began, losses = int(state["step"]), time.time(), []
        for step, batch in zip(range(first, steps), prefetch(make_batch, first)):
            state, value = advance(state, fixed_states, batch)
            losses.append(value)
            if (step + 1) % 100 == 0 or step + 1 == steps:
                key = jax.random.key(2)
                tests = [evaluate(state["average"], fixed_states, x, key) for x in held_out]
                record = {
                    "step": step + 1,
                    "loss": float(np.mean(losses)),
                    "held_out": float(np.mean(tests)),
                    "seconds_per_step": (time.time() - began) / (step + 1 - first),
                }
                losses = []
                print(stage, json.dumps(record), flush=True)
                with open(workdir / f"{stage}.jsonl", "a") as file:
                    file.write(json.dumps(record) + "\n")
                manager.save(step + 1, args=ocp.args.StandardSave(state))
    return {name: nnx.merge(graphs[name], state["average"][name]) for name in models}


def prefetch(make_batch: Callable, first: int) -> Iterator[dict]:
    """Batches from step `first` on, one of them made ahead in a thread."""
    with ThreadPoolExecutor(1) as pool:
        following, step = None, first
        while True:
            batch = following.result() if following else make_batch(np.random.default_rng([0, step]), step, "train")
            step += 1
            following = pool.submit(make_batch, np.random.default_rng([0, step]), step, "train")
            yield batch


def run(stage: str, clips: Path, workdir: Path, steps: int, rate: float) -> None:
    """Trains one stage and writes its networks to `workdir/weights`."""
    data = {split: [Clips(clips, shape, split) for shape in SHAPES] for split in ("train", "validation")}
    folder = workdir / "weights"
    rngs = nnx.Rngs(0)

    def make_batch(rng, step, split):
        source = data[split][step % len(SHAPES)]
        if stage == "autoencoder":
            return source.images(rng, 16)
        length = 1 if stage == "image" else SEGMENT
        batch = source.segments(rng, CLIPS_PER_STEP[stage], length, STRIDES.get(stage, (1,)), PACES.get(stage, (1,)))
        return batch | ({"boundary": np.ones(1)} if stage == "interpolation" else {})

    def load(component, name=None):
        return weights.load_module(*COMPONENTS[component], folder / (name or component))

    if stage == "autoencoder":
        models, frozen, loss = {"vae": AutoencoderKL(AUTOENCODER, rngs=rngs)}, {}, autoencoder_loss
    else:
        frozen, loss = {"vae": load("vae")}, diffusion_loss
    if stage == "image":
        models = {"unet": UNet(IMAGE_UNET, rngs=rngs)}
    elif stage == "keyframes":
        unet = UNet(UNET, rngs=rngs)
        image = weights.flatten(load("unet", "image_unet"))
        weights.load_into(unet, weights.flatten(unet) | image)
        models = {
            "unet": unet,
            "clip": VisionTower(VISION, rngs=rngs),
            "global_tokens": GlobalTokens(EXTRACTOR, rngs=rngs),
        }
    elif stage == "interpolation":
        models = {"unet": load("unet")}
        frozen["clip"] = load("clip")
        frozen["global_tokens"] = load("global_tokens")

    trained = fit(stage, models, frozen, loss, make_batch, workdir=workdir, steps=steps, rate=rate)
    if stage == "autoencoder":
        trained["vae"].config = scaled(trained["vae"], make_batch(np.random.default_rng(3), 0, "train")["pixels"])
    names = {"image": {"unet": "image_unet"}, "interpolation": {"unet": "interpolation_unet"}}.get(stage, {})
    for name, model in trained.items():
        weights.save_module(model, folder / names.get(name, name), model.config.to_json())


def scaled(vae: AutoencoderKL, pixels: np.ndarray) -> AutoencoderConfig:
    """The config with the factor that gives latents unit deviation, as Stable Diffusion's 0.18215 does for its own."""
    mean, _ = vae.encode(to_float(jnp.asarray(pixels)))
    return AutoencoderConfig.from_json(vae.config.to_json() | {"scaling_factor": float(1.0 / jnp.std(mean))})


def export(workdir: Path, output: Path) -> None:
    """Writes the checkpoint folder that the package ships, in half precision."""
    for name in ("vae", "unet", "interpolation_unet", "clip", "global_tokens"):
        model = weights.load_module(*COMPONENTS[name], workdir / "weights" / name)
        weights.save_module(model, output / name, model.config.to_json(), dtype=jnp.float16)
    weights.write_json(output / "scheduler" / "scheduler_config.json", SCHEDULE.to_config())
    settings = Settings(
        native_area=SHAPES[0][0] * SHAPES[0][1],
        segment_frames=SEGMENT,
        sampler="ddim",
        # More steps make the held-out sides worse, not better: see tools/score_tiny.py.
        steps=4,
        text_guidance=1.0,
    )
    weights.write_json(output / "config.json", settings.to_json())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", choices=("autoencoder", "image", "keyframes", "interpolation", "export"))
    parser.add_argument("--clips", type=Path, required=True, help="folder that build_tiny_clips.py wrote")
    parser.add_argument("--workdir", type=Path, required=True, help="checkpoints, logs and weights of all stages")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--output", type=Path, help="where `export` writes the checkpoint folder")
    args = parser.parse_args()
    if args.stage == "export":
        export(args.workdir, args.output)
    else:
        args.workdir.mkdir(parents=True, exist_ok=True)
        run(args.stage, args.clips, args.workdir, args.steps, args.rate)


if __name__ == "__main__":
    main()
