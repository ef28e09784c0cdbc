"""An evaluation of methods whose networks lie on several processes: the first one does it, the others help to make.

    evaluate("results", methods=leading(contenders), ...)         process 0, which alone reads, measures and writes
    dismiss(0)
    code = following(contenders)                                  the others, until they are dismissed

What process 0 asks of such a contender it tells the others first, frames included; then all run the same programs. So
the others need neither the data set nor the folder of results, and what is there already is nobody's work.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from gp_jax.evaluation.harness import Contender
from gp_jax.geometry import Canvas
from gp_jax.methods.of_checkpoint import OfCheckpoint
from gp_jax.parallel.gather import from_first
from gp_jax.parallel.processes import on_first


def leading(contenders: Mapping[str, Contender]) -> dict[str, Contender]:
    """The same, those with networks made by all processes; for process 0."""
    return {name: _Led(name, one) if isinstance(one.method, OfCheckpoint) else one for name, one in contenders.items()}


def following(contenders: Mapping[str, Contender]) -> int:
    """Does what process 0 asks for, until that ends; returns what it gave to `dismiss`.

    Raises:
      UserError: what is asked for cannot be done, as process 0 finds too.
    """
    while isinstance(asked := on_first(lambda: None), dict):
        contender, canvas = contenders[asked["name"]], Canvas(**asked["canvas"])
        if asked["makes"]:
            size = canvas.source_height, canvas.source_width, 3
            contender.outpaint(_from_first([np.empty((count, *size), np.uint8) for count in asked["frames"]]), canvas)
        else:
            contender.check(max(asked["frames"]), canvas)
    return asked


def dismiss(code: int) -> None:
    """Lets the others go."""
    on_first(lambda: code)


class _Led(Contender):
    """One that tells the others what it is asked for."""

    def __init__(self, name: str, contender: Contender):
        super().__init__(contender.method, contender.options)
        self.name = name

    def outpaint(self, sources: Sequence[np.ndarray], canvas: Canvas) -> list[np.ndarray]:
        """See `Contender`."""
        self._tell(list(map(len, sources)), canvas, makes=True)
        return super().outpaint(_from_first(sources), canvas)

    def check(self, frames: int, canvas: Canvas) -> None:
        """See `Contender`."""
        self._tell([frames], canvas, makes=False)
        super().check(frames, canvas)

    def _tell(self, frames: list[int], canvas: Canvas, makes: bool) -> None:
        asked = {"name": self.name, "frames": frames, "canvas": dataclasses.asdict(canvas), "makes": makes}
        on_first(lambda: asked)


def _from_first(sources: Sequence[np.ndarray]) -> list[np.ndarray]:
    return list(from_first({str(number): source for number, source in enumerate(sources)}).values())
