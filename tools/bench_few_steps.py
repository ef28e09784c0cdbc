"""What samplers of few steps make of a checkpoint in 1, 2, 4 and 8 steps: quality and time, as a table.

    python tools/bench_few_steps.py --protocol m3ddm-96 --data DAVIS --frames 16 --output few_steps
    python tools/bench_few_steps.py --protocol m3ddm-256 --data DAVIS --output mine --checkpoint my_model/ --steps 4,8

The clips are evaluated as `gp-jax evaluate` does it, with PSNR, SSIM, LPIPS and FVD (`gp-jax fetch` has the weights of
the last two). The numbers are those of the unknown region, mean over the cases of the protocol; FVD of few clips is for
comparison within the table alone. Time is taken afterwards, of the first clip and case: all in turns, the best of three
rounds, so that other work on the machine disturbs them alike. Killed and started again it goes on where it was.
"""

import argparse
import math
import time

import numpy as np

from gp_jax.cli import arguments as parse
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.cli.evaluate import add_data_arguments
from gp_jax.cli.progress import progress
from gp_jax.diffusion.tables import SAMPLERS
from gp_jax.evaluation.harness import Contender, evaluate
from gp_jax.evaluation.results import MEAN, Results
from gp_jax.evaluation.summary import COLUMNS
from gp_jax.evaluation.table import Column, Section, Table, markdown
from gp_jax.methods.globalpaint.options import Options
from gp_jax.methods.options import Count
from gp_jax.methods.registry import load
from gp_jax.parallel import make_mesh
from gp_jax.video.clips import read_clip

ROUNDS = 3
METRICS = {"psnr": "psnr", "ssim": "ssim", "lpips": "lpips", "fvd": "fvd-videogpt"}


def main() -> None:
    """Evaluates every sampler at every number of steps, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    add_data_arguments(parser)
    parser.add_argument("--checkpoint", default="tiny", metavar="DIR|NAME", help="a folder, or a model of this package")
    parser.add_argument(
        "--sampler", default="ddim_trailing,dmd2,lcm,tcd", metavar="A,B", help=f"of {', '.join(SAMPLERS)}"
    )
    parser.add_argument("--steps", default="1,2,4,8", metavar="N,M", help="numbers of denoising steps")
    arguments = parser.parse_args()

    mesh = make_mesh(arguments.mesh) if arguments.mesh else None
    method = load("globalpaint", arguments.checkpoint, mesh=mesh)
    wishes = {
        f"{sampler}-{steps}": Options(sampler=sampler, steps=Count(parse.count(steps)))
        for sampler in arguments.sampler.split(",")
        for steps in arguments.steps.split(",")
    }
    contenders = {name: Contender(method, options) for name, options in wishes.items()}
    with progress() as report:
        evaluate(
            arguments.output,
            protocol=arguments.protocol,
            dataset=arguments.dataset,
            data=arguments.data,
            methods=contenders,
            clips=arguments.clips and arguments.clips.split(","),
            frames=arguments.frames,
            metrics=[*METRICS.values()],
            mesh=mesh,
            progress=report,
        )
    results = Results(arguments.output)
    print(markdown(table(results, wishes, seconds_per_frame(results, contenders))))


def seconds_per_frame(results: Results, contenders: dict[str, Contender]) -> dict[str, float]:
    """How long each takes for the first clip and case."""
    clip, canvas = next(iter(results.manifest.clips)), next(iter(results.protocol.cases.values()))
    source = np.ascontiguousarray(read_clip(results.reference(clip))[(slice(None), *canvas.observed)])
    best = dict.fromkeys(contenders, math.inf)
    for name in [*contenders] * ROUNDS:
        begin = time.perf_counter()
        contenders[name].outpaint([source], canvas)
        best[name] = min(best[name], (time.perf_counter() - begin) / len(source))
    return best


def table(results: Results, wishes: dict[str, Options], seconds: dict[str, float]) -> Table:
    """Samplers, steps, scores and seconds: a row for each of the `wishes`; both by the name of the contender."""
    scores = {
        (score.method, score.metric): score.value
        for score in results.scores()
        if (score.case, score.region) == (MEAN, "unknown")
    }
    rows = tuple(
        (wish.sampler, wish.steps, *(scores.get((name, metric)) for metric in METRICS), seconds[name])
        for name, wish in wishes.items()
    )
    columns = Column("sampler"), Column("steps"), *(COLUMNS[metric] for metric in METRICS)
    clips, frames = len(results.manifest.clips), max(results.manifest.clips.values())
    title = f"{results.manifest.protocol}, {clips} clips of {frames} frames, unknown region"
    return Table((*columns, Column("seconds per frame", 3)), (Section(title, rows),), ())


if __name__ == "__main__":
    main()
