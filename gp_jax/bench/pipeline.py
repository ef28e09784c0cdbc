"""GlobalPaint from frames to frames, with the networks of a configuration and random weights.

    run = prepare_case(with_pixels(config), devices, segments=1)
    pipeline = pipeline_of(run, mesh=None)
    row = bench_pipeline(run, pipeline, canvas, frames=32, options=Options(steps=25, guidance=2.0), repeats=3)
    row.times.median, row.shares["denoise"]
    projected(row, pipeline, options, 500, Canvas.from_size(512, 512, 720, 1280))       -> seconds, and calls by stage

It is the job that `gp-jax outpaint` runs, but for reading and writing files. Nothing is kept of it: neither frames nor
what was learned of this machine's speed.
"""

import dataclasses
import statistics
import time
from collections.abc import Iterable, Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from gp_jax.bench.measure import Times, peak_bytes, random_weights, slowest, timed
from gp_jax.checkpoint.folder import Checkpoint
from gp_jax.checkpoint.parameters import bind
from gp_jax.checkpoint.settings import Settings
from gp_jax.checkpoint.tensors import is_floating
from gp_jax.diffusion.samplers import trajectory
from gp_jax.errors import UserError
from gp_jax.geometry import Canvas
from gp_jax.jobs.programs import Call, flops_of
from gp_jax.jobs.rates import Clock, Rates
from gp_jax.methods.globalpaint.job import OutpaintJob
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
from gp_jax.methods.latent_job import DECODE, FINISH, SHRINK
from gp_jax.methods.latents import encode
from gp_jax.methods.method import ArrayClip
from gp_jax.parallel import parameter_shardings, use_mesh
from gp_jax.training.budget import TEXT_TOKENS
from gp_jax.training.config import STAGES
from gp_jax.training.networks import within
from gp_jax.training.setup import Run


@dataclasses.dataclass(frozen=True)
class PipelineRow:
    """One clip, made again and again.

    Attributes:
      run: whose networks it is made by.
      frames: of the clip.
      flops: of the networks, for the whole clip.
      compile_seconds: of all programs, one after the other.
      times: of the whole clip.
      shares: encode, denoise, decode and other, of the whole; they add up to 1.
      calls: stage -> (seconds, FLOPs) of one call.
      other: seconds of a frame that no program has: reading, waiting.
      peak_bytes: the most memory in use; None where the device does not tell.
    """

    run: Run
    frames: int
    flops: float
    compile_seconds: float
    times: Times
    shares: dict[str, float]
    calls: dict[str, tuple[float, float]]
    other: float
    peak_bytes: int | None


class _Weightless(Checkpoint):
    """Texts of it are as long as a text tower's would be."""

    tokens = 1

    def embed(self, prompt: str) -> np.ndarray:
        return np.zeros((1, self.tokens, self.unet.config.cross_attention_dim), np.float32)


def check_pipeline(run: Run, steps: int | None = None) -> None:
    """Raises UserError for other methods' networks, and where the sampler does not take so many steps."""
    if not isinstance(run.settings, Settings) or STAGES[run.config.stage].denoiser not in run.networks.modules:
        raise UserError(f"the pipeline is GlobalPaint's, and the stage {run.config.stage} has no network for it")
    trajectory(run.schedule, run.settings.sampler, steps or run.settings.steps)


def pipeline_of(run: Run, mesh: Mesh | None) -> OutpaintPipeline:
    """With random weights in the types in which a checkpoint's are held; of a run that `check_pipeline` lets pass.

    Its network for interpolation is the one for key frames: they take the same time.
    """
    denoiser, networks = STAGES[run.config.stage].denoiser, {}
    for name, module in run.networks.modules.items():
        dtype = np.float32 if name == "vae" else run.config.dtype
        shapes = {
            parameter: jax.ShapeDtypeStruct(x.shape, dtype if is_floating(x) else x.dtype)
            for parameter, x in within(name, run.networks.shapes).items()
        }
        places = parameter_shardings(shapes, mesh) if mesh else dict.fromkeys(shapes)
        put = {key: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=places[key]) for key, x in shapes.items()}
        networks[name] = bind(module, random_weights(put))
    checkpoint = _Weightless(
        settings=run.settings,
        schedule=run.schedule,
        unet=networks[denoiser],
        interpolation_unet=networks[denoiser],
        vae=networks["vae"],
        vision=networks.get("clip"),
        extractor=networks.get("global_tokens"),
        text=None,
        tokenizer=None,
    )
    checkpoint.tokens = TEXT_TOKENS if run.config.data.text else 1
    return OutpaintPipeline(checkpoint, mesh)


def bench_pipeline(
    run: Run, pipeline: OutpaintPipeline, canvas: Canvas, *, frames: int, options: Options, repeats: int
) -> PipelineRow:
    """Makes a clip of random frames once, and then `repeats` times.

    Args:
      run: of `pipeline`.
      pipeline: of `pipeline_of`.
      canvas: the target frame.
      frames: of the clip.
      options: what is asked for.
      repeats: to take the time of.
    """
    shape = frames, canvas.source_height, canvas.source_width, 3
    clip = ArrayClip(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))

    def job() -> tuple[OutpaintJob, "_Heard"]:
        made, rates = pipeline.prepare(clip, canvas, options), _Heard("bench")
        assert isinstance(made, OutpaintJob), "nobody asks for detail here"
        made.rates = rates  # in the place of those that a file keeps
        return made, rates

    first, _ = job()
    begin = time.perf_counter()
    costs = first.costs  # compiles all programs
    compile_seconds = time.perf_counter() - begin
    for _ in first.frames():
        pass
    seconds, clocks = [], []
    for _ in range(repeats):
        again, rates = job()
        begin = time.perf_counter()
        for _ in again.frames():
            pass
        seconds.append(time.perf_counter() - begin)
        clocks.append(rates.clock.spent)
    spent = {
        stage: [statistics.mean(clock[stage, work][0] for clock in clocks), clocks[0][stage, work][1]]
        for stage, work in clocks[0]
    }
    denoised = [call for call in first.calls() if call.name not in (SHRINK, DECODE, FINISH) and call.name in spent]
    encoded = sum(spent[call.name][1] * _encoding(pipeline, call, repeats) for call in denoised)
    whole = sum(spent[cost.name][0] for cost in costs if cost.name in spent)
    mean = statistics.mean(seconds)
    shares: dict[str, float] = {
        "encode": encoded / mean,
        "denoise": (sum(spent[call.name][0] for call in denoised) - encoded) / mean,
        "decode": spent[FINISH][0] / mean,
    }
    return PipelineRow(
        run=run,
        frames=frames,
        flops=sum(cost.flops * cost.times for cost in costs) / (pipeline.mesh.size if pipeline.mesh else 1),
        compile_seconds=compile_seconds,
        times=slowest(seconds),
        shares=shares | {"other": 1 - sum(shares.values())},
        calls={
            cost.name: (spent[cost.name][0] / spent[cost.name][1], cost.flops) for cost in costs if cost.name in spent
        },
        other=max(0.0, mean - whole) / frames,
        peak_bytes=peak_bytes(),
    )


def projected(
    row: PipelineRow, pipeline: OutpaintPipeline, options: Options, frames: int, canvas: Canvas
) -> tuple[float, dict[str, int]]:
    """Seconds that another clip would take, by the calls of its plan: each as long as one that was measured, in
    proportion to its FLOPs. And how many calls there are of each stage."""
    job = pipeline.prepare(_Absent(frames, canvas), canvas, options)
    assert isinstance(job, OutpaintJob)
    total, counts = row.other * frames, dict[str, int]()
    for call in job.calls():
        # A clip that was a single segment says what the others will take, too.
        known = row.calls.get(call.name) or (row.calls.get("key frames") if call.name == "interpolation" else None)
        if known is not None:
            counts[call.name] = call.times
            total += call.times * known[0] * _flops(call, pipeline.mesh) / known[1]
    return total, counts


def _flops(call: Call, mesh: Mesh | None) -> int:
    with use_mesh(mesh):
        return flops_of(call.function.trace(*call.arguments, **call.static).jaxpr.jaxpr)


def _encoding(pipeline: OutpaintPipeline, call: Call, repeats: int) -> float:
    """Seconds that a call of `make_segments` takes to encode, measured apart."""
    vae, pixels = call.arguments[1], call.arguments[4]
    given = np.zeros(pixels.shape, pixels.dtype)
    with use_mesh(pipeline.mesh):
        program = jax.jit(encode)
        return timed(lambda: program(vae, given), repeats).median


class _Heard(Rates):
    """Hears what a clock says, and keeps no file of it."""

    clock = Clock()

    def learn(self, clock: Clock) -> None:
        self.clock = clock


class _Absent:
    """So many frames, of which only the number is asked."""

    def __init__(self, frames: int, canvas: Canvas):
        self.count, self.shape = frames, (canvas.source_height, canvas.source_width, 3)

    def __len__(self) -> int:
        return self.count

    def frames_at(self, indices: Iterable[int]) -> Iterator[np.ndarray]:
        return (np.zeros(self.shape, np.uint8) for _ in indices)
