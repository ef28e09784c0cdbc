"""Trains a model, or goes on training it.

A configuration is a Python file with `get_config()`; those in configs/ say in their first lines what they need and what
they give. Any of its fields can be replaced on the command line, written as --config.KEY=VALUE.

The working directory gets the log (log.jsonl, tensorboard/), the training state (state/), sample clips (samples/) and
at the end checkpoint/, which `gp-jax outpaint --checkpoint` and the --init-from of the next stage take. The same
command goes on where it was stopped or killed. SIGTERM saves the state and ends with exit code 0; before the first step
there is nothing to save, and it ends at once. Of several processes all end when one fails or dies, with its reason.

examples:
  gp-jax train --config configs/tiny.py:keyframes --workdir W2 --init-from W1/checkpoint --config.data.records=records
  gp-jax train --config configs/sd2.py:keyframes --workdir W --init-from sd2/ --config.mesh=fsdp=8
  gp-jax train --config configs/sd2.py:keyframes --workdir W --coordinator 10.0.0.1:99 --num-processes 4 --process-id 0
"""

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gp_jax.cli.processes import add_process_arguments
from gp_jax.cli.progress import progress
from gp_jax.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument("--config", required=True, metavar="FILE[:ARG]", help="configs/tiny.py:keyframes and the like")
    parser.add_argument("--workdir", required=True, type=Path, metavar="DIR", help="the run's own folder")
    parser.add_argument("--init-from", metavar="DIR|NAME", help="the checkpoint to start from, as config.init_from")
    add_process_arguments(parser)
    parser.set_defaults(overrides=[])  # takes what begins with --config. (see main.py)


def run(arguments: argparse.Namespace) -> None:
    """Trains; prints a line whenever the log gets one."""
    from gp_jax.jobs.compilation_cache import keep_programs
    from gp_jax.parallel import processes
    from gp_jax.training.config import load_config
    from gp_jax.training.rules import check_fields

    overrides = arguments.overrides
    if arguments.init_from:
        overrides = [*overrides, f"--config.init_from={arguments.init_from}"]
    config = load_config(arguments.config, overrides)
    check_fields(config)
    keep_programs()
    with processes.joined(arguments.coordinator, arguments.num_processes, arguments.process_id):
        _train(config, arguments.workdir)


def _train(config: Any, workdir: Path) -> None:
    import jax

    from gp_jax.training.loop import train

    with progress() as report:
        finished = train(
            config,
            workdir,
            progress=report,
            show=lambda line: print(_line(line), file=sys.stderr, flush=True),
            evaluate=_evaluation(config, workdir) if config.evaluation.protocol else None,
        )
    if finished and jax.process_index() == 0:
        print(f"{workdir / 'checkpoint'}: {config.steps} steps, stage {config.stage}")
    if not finished:
        print("gp-jax: stopped by SIGTERM, the state is saved; the same command goes on", file=sys.stderr)


def _evaluation(config: Any, workdir: Path) -> Callable[[Path, int], dict[str, float | None]]:
    """(checkpoint folder, step) -> the scores of the protocol, by case, region and metric."""
    from gp_jax.evaluation.harness import Contender, evaluate, open_clips
    from gp_jax.evaluation.results import Results
    from gp_jax.methods.registry import load
    from gp_jax.training.config import STAGES

    options, method = config.evaluation, STAGES[config.stage].method
    if not config.samples.interval:
        raise UserError("config.evaluation.protocol is followed with each sample, and config.samples.interval is 0")
    open_clips(options.protocol, options.dataset, options.data, options.clips or None)  # refuses what is not there

    def run(checkpoint: Path, step: int) -> dict[str, float | None]:
        output = workdir / "evaluation" / f"{step:07d}"
        evaluate(
            output,
            protocol=options.protocol,
            dataset=options.dataset,
            data=options.data,
            methods={method: Contender(load(method, checkpoint))},
            clips=options.clips or None,
            frames=options.frames or None,
        )
        return {f"{score.case}/{score.region}/{score.metric}": score.value for score in Results(output).scores()}

    return run


def _line(line: Mapping[str, Any]) -> str:
    """The numbers of a line of the log, the lists left to the file."""
    return "  ".join(f"{name} {value:.4g}" for name, value in line.items() if isinstance(value, int | float))
