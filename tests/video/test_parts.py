"""A part of a clip is a clip: the same frames at the same distances in time, and what is heard meanwhile."""

import av
import numpy as np
import pytest

from gp_jax.geometry import Canvas
from gp_jax.jobs.source import identity
from gp_jax.video import VideoReader, VideoWriter


@pytest.mark.parametrize("ticks", [None, [0, 40, 80, 200, 220, 500, 1000]])
@pytest.mark.parametrize("start, stop", [(0, 7), (0, 3), (2, 5), (6, 7)])
def test_frames_and_times(clip, ticks, start, stop):
    whole = VideoReader(clip("a.mkv", count=7, ticks=ticks))
    part = whole.part(start, stop)
    np.testing.assert_array_equal(np.stack(list(part)), np.stack(list(whole))[start:stop])
    ends = (*whole.info.times, whole.info.duration)
    assert part.info.times == tuple(time - ends[start] for time in ends[start:stop])
    assert part.info.duration == ends[stop] - ends[start]
    assert part.info.is_steady == (whole.info.is_steady or stop - start == 1)
    again = part.part(0, len(part))
    np.testing.assert_array_equal(next(iter(again)), next(iter(part)))


def heard(path):
    """When sound begins and ends, in seconds."""
    with av.open(str(path)) as file:
        frames = list(file.decode(audio=0))
    return float(frames[0].time), float(frames[-1].time + frames[-1].samples / frames[-1].rate)


@pytest.mark.parametrize("sound, suffix", [("aac", ".mp4"), ("aac", ".webm"), ("libopus", ".mkv")])
@pytest.mark.parametrize("start, stop", [(0, 20), (25, 50), (30, 60)])
def test_sound_is_cut_to_the_pictures(tmp_path, clip, sound, suffix, start, stop):
    reader = VideoReader(clip("in.mkv" if sound == "libopus" else "in.mp4", count=60, sound=sound))
    part = reader.part(start, stop)
    with VideoWriter(tmp_path / f"out{suffix}", part.info, audio_from=part, size=(36, 52)) as writer:
        for frame in part:
            writer.write(frame)
    written = VideoReader(writer.path)
    begin, end = heard(written.path)
    assert len(written) == stop - start and abs(begin) < 0.05 and abs(end - (stop - start) / 25) < 0.07
    np.testing.assert_allclose(float(written.info.duration), (stop - start) / 25, atol=0.002)


def test_two_parts_are_two_sources(clip):
    reader = VideoReader(clip("a.mp4", count=9))
    canvas = Canvas.from_pads(reader.info.height, reader.info.width, 2, 2, 0, 0)
    whole, *parts = (
        identity(part, canvas) for part in (reader, reader.part(0, 4), reader.part(1, 5), reader.part(0, 4))
    )
    assert whole != parts[0] != parts[1] and parts[0] == parts[2]
