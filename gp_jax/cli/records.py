"""What `gp-jax bench` does of --record and --diff; its other cases are in bench.py."""

import argparse
import os
from pathlib import Path

from rich.console import Console

from gp_jax.errors import UserError

# What is asked of either only, beside what other cases of the command take too.
OF_RECORD = ("checkpoint", "dtype", "backend")
SHARED = ("attention", "mesh", "steps", "repeats")


def record(arguments: argparse.Namespace) -> None:
    """Writes one file, and prints what is in it."""
    if len(arguments.attention or []) > 1:
        raise UserError(
            "--record keeps what one kernel makes: give one --attention, and record the others by themselves"
        )
    if arguments.steps == 1:
        raise UserError("--steps 1 is too few: the first step is timed with its compilation, so give 2 or more")
    if arguments.backend == "torch":
        from gp_jax.bench.torch_process import check_torch

        check_torch()
        if arguments.mesh:
            raise UserError("--backend torch runs on one device: leave --mesh out")
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch has the same device

    import jax

    from gp_jax.bench import fixed
    from gp_jax.bench.drift import label
    from gp_jax.bench.record import record as made_of
    from gp_jax.files import check_file
    from gp_jax.parallel import make_mesh

    check_file(arguments.record)
    mesh = make_mesh(arguments.mesh) if arguments.mesh else None
    dtype = arguments.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    options = dtype, (arguments.attention or ["auto"])[0], mesh
    subject = fixed.of_checkpoint(arguments.checkpoint, *options) if arguments.checkpoint else fixed.small(*options)
    with Console(stderr=True).status("weights") as status:
        kept = made_of(
            subject,
            mesh,
            steps=arguments.steps or 10,
            repeats=arguments.repeats or 3,
            backend=arguments.backend or "jax",
            progress=status.update,
        )
    kept.write(arguments.record)
    print(f"{arguments.record}: {label(kept)}")
    for stage, seconds in kept.seconds.items():
        rest = f", then {seconds['median']:.3g} s" if "median" in seconds else ""
        print(f"  {stage:9} {seconds['first']:.3g} s at first{rest}")
    print("  " + ", ".join(f"{name} {value:.4g}" for name, value in kept.metrics.items()))


def diff(arguments: argparse.Namespace) -> int:
    """Prints a table for each record but the first; the exit code is 1 where one is beyond tolerance."""
    if len(arguments.diff) < 2:
        raise UserError("--diff compares records with the first of them: give two or more")
    from gp_jax.bench.drift import compare, label, told
    from gp_jax.bench.record import Record
    from gp_jax.bench.table import Table

    sides = [Record.read(path) for path in arguments.diff]
    compared = [compare(sides[0], side) for side in sides[1:]]
    print(f"reference  {arguments.diff[0]}: {label(sides[0])}")
    for path, side, lines in zip(arguments.diff[1:], sides[1:], compared):
        print(f"\n{path}: {label(side)}")
        table = Table(["stage   ", "drift  ", "tolerance", "largest", "reference s", "seconds", "x     ", "within"])
        table.line(table.headings)
        for line in lines:
            ours, theirs = line.seconds
            speed = f"{ours / theirs:.2f}" if ours and theirs else "-"
            shown = ("-" if x is None else f"{x:.3g}" for x in line.seconds)
            cells = f"{line.drift:.1e}", f"{line.tolerance:g}", f"{line.largest:.1e}", *shown, speed
            table.line([line.name, *cells, "yes" if line.is_within else "NO"])
        print(told(sides[0], side, lines))
    if arguments.output:
        from gp_jax.bench.drift_page import render
        from gp_jax.files import write_text

        page = Path(arguments.output, "drift.html")
        write_text(page, render([Path(path).stem for path in arguments.diff], sides, compared))
        print(f"\n{page}")
    return int(not all(line.is_within for lines in compared for line in lines))
