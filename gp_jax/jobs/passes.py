"""Frames of a clip that is too long to be kept, read anew by each of those who walk along it.

    walks = {0: [0, 400, 800, 1200], 1: [0, 30, 60, ...], 2: range(1201)}        what each level of a plan will ask for
    with Passes(read, walks, ahead=8) as frames:
        window = frames.along(1, first=400)          what lies before frame 400 is let go of
        window[430], window[410]                     read on as far as 430, in one pass over the clip for all of level 1

A `Spool` reads a clip once and keeps all of it. Here nothing is kept but windows, so neither memory nor disk grow with
the clip, and it is decoded once for each level. Levels advance side by side, each with a pass of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import takewhile
from typing import Any

import numpy as np

from gp_jax.jobs.threads import ahead

Read = Callable[[Sequence[int]], Iterator[np.ndarray]]


class Passes:
    """Frames by index, for walks along the clip. Use it in a `with` block, which ends the threads that read.

    Args:
      read: the frames of rising indices, in one pass.
      walks: by name, the rising indices of all frames that will be asked for.
      ahead: frames that are read before they are asked for.
    """

    def __init__(self, read: Read, walks: Mapping[int, Sequence[int]], ahead: int):
        self._read, self._walks, self._ahead = read, walks, ahead
        self._begun: dict[int, _Walk] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Passes":
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def along(self, name: int, first: int) -> "_Walk":
        """Frames of a walk from `first` on, by index; `first` never falls."""
        if name not in self._begun:
            indices = [index for index in self._walks[name] if index >= first]
            frames = self._stack.enter_context(ahead(self._read(indices), self._ahead))
            self._begun[name] = _Walk(zip(indices, frames))
        self._begun[name].forget(first)
        return self._begun[name]

    def some(self, indices: Sequence[int]) -> list[np.ndarray]:
        """The frames of a few rising indices, in a pass of its own."""
        return list(self._read(indices))


class _Walk:
    """Frames that were read and are still held, and those to come."""

    def __init__(self, frames: Iterator[tuple[int, np.ndarray]]):
        self._frames = frames
        self._held: dict[int, np.ndarray] = {}

    def __getitem__(self, index: int) -> np.ndarray:
        if index not in self._held:
            for there, frame in self._frames:
                self._held[there] = frame
                if there == index:
                    break
        return self._held[index]

    def forget(self, before: int) -> None:
        for index in list(takewhile(lambda index: index < before, self._held)):
            del self._held[index]
