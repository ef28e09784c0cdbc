"""Averages two checkpoints of one architecture, parameter by parameter.

    python tools/average_checkpoints.py W/soft/checkpoint W/sharp/checkpoint my_model --share 0.5

Everything but the weights comes from the second one; see gp_jax/checkpoint/average.py.
"""

import argparse
from pathlib import Path

from gp_jax.checkpoint.average import average
from gp_jax.cli.arguments import HelpFormatter
from gp_jax.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=HelpFormatter)
    parser.add_argument("first", type=Path, help="a checkpoint folder, or tiny")
    parser.add_argument("second", type=Path, help="another one")
    parser.add_argument("target", type=Path, help="the folder to write")
    parser.add_argument("--share", type=float, default=0.5, help="of the second, from 0 to 1")
    args = parser.parse_args()
    if not 0 <= args.share <= 1:
        parser.error(f"--share {args.share} must be from 0 to 1")
    try:
        average(args.first, args.second, args.target, args.share)
    except UserError as error:
        parser.error(str(error))
    print(f"{args.target}: {1 - args.share:g} of {args.first}, {args.share:g} of {args.second}")


if __name__ == "__main__":
    main()
