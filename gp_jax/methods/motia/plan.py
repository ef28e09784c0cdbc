"""Which frames MOTIA denoises together: windows of 16 frames, one every 4 frames, in each step of the sampler.

    windows(24)  -> (0 ... 15), (4 ... 19), (8 ... 23)

All windows take a step from the same latents; then a frame becomes the mean of what those made of it that hold it, here
frame 4 of the first two. A clip that the stride does not divide has one window more, which ends with its last frame.
One of fewer than 16 frames is a single window, filled up by the last of them.

Source: https://github.com/G-U-N/Be-Your-Outpainter (53748d1), which takes at most 64 frames, in whole strides.
"""

from collections import Counter

from gp_jax.errors import UserError
from gp_jax.methods.segments import Segment

LENGTH, STRIDE = 16, 4  # frames of a window, and from one to the next


def windows(num_frames: int) -> tuple[Segment, ...]:
    """The windows of a step, in the order of time; `shares` are those of a frame's mean.

    Raises:
      UserError: there are no frames.
    """
    return _windows(num_frames, STRIDE)


def chunks(num_frames: int) -> tuple[Segment, ...]:
    """Every frame once or more, as few windows as can be: for what is made of each frame by itself."""
    return _windows(num_frames, LENGTH)


def _windows(num_frames: int, stride: int) -> tuple[Segment, ...]:
    if num_frames < 1:
        raise UserError("the clip has no frames: there is nothing to continue")
    last = max(num_frames - LENGTH, 0)
    starts = sorted({*range(0, last + 1, stride), last})
    inside = [range(start, min(start + LENGTH, num_frames)) for start in starts]
    counts = Counter(frame for frames in inside for frame in frames)
    made = []
    for frames in inside:
        filled = (*frames, *[num_frames - 1] * (LENGTH - len(frames)))
        shares = tuple(1 / counts[frame] for frame in frames)
        made.append(Segment(filled, filled, (), tuple(range(len(frames))), shares))
    return tuple(made)
