"""The picture of a result: the frames that were asked for, where they belong."""

import numpy as np
import pytest
from contact_sheet import contact_sheet


class Clip:
    def __init__(self, frames):
        self.frames = frames

    def __len__(self):
        return len(self.frames)

    def frames_at(self, indices):
        return (self.frames[index] for index in indices)


def test_first_and_last_frame_above_each_other():
    source = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 6, 3), np.uint8)
    result = 100 + np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 10, 3), np.uint8)
    sheet = contact_sheet(Clip(source), Clip(result), 3, gap=2)
    assert sheet.shape == (12, 3 * 12, 3)
    assert [sheet[2, 6 + 12 * i, 0] for i in range(3)] == [0, 2, 4]
    assert [sheet[8, 6 + 12 * i, 0] for i in range(3)] == [100, 102, 104]
    assert (sheet[0, :3] == 255).all()


def test_clips_of_different_length_are_refused():
    clip = np.zeros((3, 2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match="2 frames, the result 3"):
        contact_sheet(Clip(clip[:2]), Clip(clip), 2)
