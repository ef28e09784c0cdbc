"""Which methods there are, by name; a method is imported when it is asked for.

    load("globalpaint", checkpoint="my_model/")
    load("folder:outputs/motia")            what another system made, in the place of a method
    options_of("globalpaint")               its dataclass of options, without loading anything

A new method is a folder beside this file and a line in `METHODS`.
"""

from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from gp_jax.errors import UserError
from gp_jax.methods.method import Method

FOLDER = "folder"  # with a colon and a path: outputs that lie there already


class Line(NamedTuple):
    """Where a method is, as `module:name` each.

    Attributes:
      make: makes it; with `networks` it is called as `make(checkpoint, mesh=..., ...)`, else without arguments.
      options: its dataclass of options, in a module that imports no jax.
      title: in a few words, for `--help`.
      networks: whether it is made of a checkpoint.
    """

    make: str
    options: str
    title: str
    networks: bool = False


_PLAIN = "gp_jax.methods.options:NoOptions"
METHODS: dict[str, Line] = {
    "globalpaint": Line(
        "gp_jax.methods.globalpaint.method:GlobalPaint",
        "gp_jax.methods.globalpaint.options:Options",
        "key frames, then the frames between them",
        networks=True,
    ),
    "m3ddm": Line(
        "gp_jax.methods.m3ddm.method:M3DDMMethod",
        "gp_jax.methods.m3ddm.options:Options",
        "M3DDM: every 15th frame, then every 5th, then all; its weights are public",
        networks=True,
    ),
    "motia": Line(
        "gp_jax.methods.motia.method:MOTIAMethod",
        "gp_jax.methods.motia.options:Options",
        "MOTIA: Stable Diffusion 1.5, ControlNet and motion modules, with a LoRA of the clip; its weights are public",
        networks=True,
    ),
    "dehan": Line(
        "gp_jax.methods.dehan.method:Dehan",
        "gp_jax.methods.dehan.options:Options",
        "what other frames show, objects left out; the rest inpainted in one frame and carried to the others",
    ),
    "edge": Line("gp_jax.methods.classical:edge", _PLAIN, "the border's pixels, copied outwards"),
    "mirror": Line("gp_jax.methods.classical:mirror", _PLAIN, "the source, folded over at its borders"),
    "telea": Line("gp_jax.methods.classical:telea", _PLAIN, "OpenCV's inpainting by fast marching"),
    "navier-stokes": Line("gp_jax.methods.classical:navier_stokes", _PLAIN, "OpenCV's inpainting by fluid dynamics"),
    "flow": Line("gp_jax.methods.classical:flow", _PLAIN, "what other frames show, carried over along optical flow"),
}


def load(name: str, checkpoint: str | Path | None = None, **options: Any) -> Method:
    """A method, ready to prepare jobs.

    Args:
      name: a name in `METHODS`, or `folder:DIR`.
      checkpoint: a folder or a model of this package, for methods with networks; None for the method's own.
      **options: for methods with networks, such as `mesh` and `lora`; see `of_checkpoint.OfCheckpoint`.

    Raises:
      UserError: there is no such method, checkpoint or folder, or the method takes no checkpoint or no options.
    """
    name = str(name)  # None is told as any other that there is not
    kind, _, folder = name.partition(":")
    line = None if kind == FOLDER and folder else _line(name)
    if line and line.networks:
        return _found(line.make)(checkpoint, **options)
    if checkpoint is not None:
        raise UserError(f"the method {name} is made of no checkpoint: leave it out")
    if given := [option for option, value in options.items() if value is not None]:
        raise UserError(f"the method {name} has no networks, and takes no {given[0]}: leave it out")
    if line:
        return _found(line.make)()
    from gp_jax.methods.folder import Folder

    return Folder(folder)


def options_of(name: str) -> type:
    """The dataclass of a method's options; raises UserError where there is no such method."""
    return _found(_PLAIN if name.partition(":")[0] == FOLDER else _line(name).options)


def _line(name: str) -> Line:
    if name not in METHODS:
        raise UserError(f"there is no method {name}: choose of {', '.join(METHODS)} and folder:DIR")
    return METHODS[name]


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
