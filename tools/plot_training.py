"""Training curves as a picture: the losses of runs over their steps.

    python tools/plot_training.py curves.png W/3 W/4
    python tools/plot_training.py ablation.png --key validation_loss A/baseline-0 A/baseline-1 A/est-0 A/est-1

Reads `log.jsonl` of each workdir. Runs whose names differ only by a number behind a hyphen get one colour.
"""

import argparse
from pathlib import Path

import matplotlib
from jobs import run

from gp_jax.cli.arguments import HelpFormatter
from gp_jax.errors import UserError
from gp_jax.files import replacing
from gp_jax.training.log import read_log

matplotlib.use("Agg")
from matplotlib import pyplot


def curve(workdir: Path, key: str) -> tuple[list[int], list[float]]:
    """Steps and values of one quantity of a run's log."""
    lines = [line for line in read_log(workdir) if line.get(key) is not None]
    return [line["step"] for line in lines], [line[key] for line in lines]


def parse() -> argparse.Namespace:
    """The arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("picture", type=Path, help="a PNG or SVG file")
    parser.add_argument("workdirs", type=Path, nargs="+", help="of gp-jax train")
    parser.add_argument("--key", action="append", help="what to draw, a panel each (default: loss, validation_loss)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Draws them."""
    keys = args.key or ["loss", "validation_loss"]
    figure, panels = pyplot.subplots(1, len(keys), figsize=(5 * len(keys), 3.4), squeeze=False, layout="constrained")
    if args.picture.suffix[1:] not in (formats := figure.canvas.get_supported_filetypes()):
        raise UserError(f"{args.picture} is in no format that can be written: end it in .{', .'.join(formats)}")
    colours: dict[str, str] = {}
    for workdir in args.workdirs:
        steps_values = [curve(workdir, key) for key in keys]
        if not any(steps for steps, _ in steps_values):
            raise UserError(f"{workdir} has no log with {' or '.join(keys)}: give the workdir of a training run")
        name, _, number = workdir.name.rpartition("-")
        kind = name if number.isdigit() and name else workdir.name
        label = kind if kind not in colours else None
        colour = colours.setdefault(kind, f"C{len(colours)}")
        for (panel,), (steps, values) in zip(panels.T, steps_values):
            panel.plot(steps, values, color=colour, label=label, marker="." if len(steps) < 12 else None)
    for (panel,), key in zip(panels.T, keys):
        panel.set(xlabel="step", ylabel=key.replace("_", " "))
        panel.grid(alpha=0.3)
    panels[0, 0].legend()
    with replacing(args.picture) as temporary:
        figure.savefig(temporary, dpi=110, format=args.picture.suffix[1:])
    print(f"{args.picture}: {len(args.workdirs)} runs")


if __name__ == "__main__":
    run(main, parse())
