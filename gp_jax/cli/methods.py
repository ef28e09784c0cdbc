"""What commands that run methods take of their networks, and a method by what was asked for."""

import argparse
from collections.abc import Sequence
from typing import Any

from gp_jax.cli import arguments as parse
from gp_jax.errors import UserError
from gp_jax.methods.method import Method
from gp_jax.methods.registry import METHODS, load

ATTENTIONS = ("auto", "einsum", "xla", "blocks", "cudnn", "splash")  # as in models/attention/, which imports jax
DTYPES = ("float32", "bfloat16")


def add_kernel_arguments(group: Any) -> None:
    """How the networks of a method compute, and what is added to them."""
    group.add_argument(
        "--attention",
        choices=ATTENTIONS,
        metavar="NAME",
        help=f"kernel of the denoising networks: {', '.join(ATTENTIONS)}; by default auto, the fastest",
    )
    group.add_argument(
        "--dtype",
        choices=DTYPES,
        metavar="NAME",
        help=f"but of the autoencoder: {', '.join(DTYPES)}; by default float32 on CPUs, bfloat16 elsewhere",
    )
    group.add_argument(
        "--lora",
        type=parse.lora,
        action="append",
        metavar="FILE[:STRENGTH]",
        help="what is added to the networks of globalpaint or motia, by default in full; several add up",
    )


def load_method(name: str, checkpoint: str | None, arguments: argparse.Namespace, mesh: Any = None) -> Method:
    """A method, its networks as the arguments wish; methods without networks take no part in that.

    Args:
      name, checkpoint: see `registry.load`.
      arguments: of `add_kernel_arguments`.
      mesh: that of the arguments, made.
    """
    if not has_networks(name):
        return load(name, checkpoint)
    lora = {"lora": arguments.lora} if arguments.lora else {}
    return load(name, checkpoint, mesh=mesh, attention=arguments.attention, dtype=arguments.dtype, **lora)


def check_networks(arguments: argparse.Namespace, names: Sequence[str], flags: Sequence[str]) -> None:
    """Raises UserError where one of the flags was given, which are for networks, and none of the methods has any."""
    wished = [flag for flag in flags if getattr(arguments, flag)]
    if wished and not any(map(has_networks, names)):
        raise UserError(f"--{wished[0]} is for networks, and {', '.join(names)} has none: leave it out")


def has_networks(name: str) -> bool:
    """Whether a method is made of a checkpoint."""
    return name in METHODS and METHODS[name].networks
