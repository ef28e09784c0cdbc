"""Test clips lie within a shot, do not overlap, and come from films that nothing is trained on."""

import re
from itertools import pairwise

import pytest
from build_test_clips import clips_of, starts
from evaluation_packages import PACKAGES
from training_packages import PACKAGES as TRAINING_PACKAGES

from gp_jax.video import VideoReader, resolve


@pytest.mark.parametrize("length", [16, 20, 39, 40, 41, 200])
def test_clips_of_a_shot_are_apart_and_within_it(length):
    spans = [(first, min(first + 20, 7 + length)) for first in starts(7, 7 + length, frames=20)]
    assert spans[0][0] == 7 and spans[-1][1] <= 7 + length
    assert all(a_stop <= b_start for (_, a_stop), (b_start, _) in pairwise(spans))
    assert len(spans) == 1 + (length >= 40)


def test_no_file_is_for_training_and_for_tests():
    patterns = [
        {(p.name, pick.pattern) for p in packages for pick in p.picks} for packages in (PACKAGES, TRAINING_PACKAGES)
    ]
    assert not patterns[0] & patterns[1]
    assert all(re.fullmatch(r"[0-9a-f]{64}", package.sha256) for package in PACKAGES)


def test_a_film_becomes_clips_of_its_own_frames(tmp_path):
    path = resolve("sample:carphone")
    first, second = clips_of(path, tmp_path, frames=40)
    film = list(VideoReader(path))
    assert first.shape == second.shape == (40, 144, 176, 3)
    errors = [[abs(clip[0].astype(int) - frame).mean() for frame in film] for clip in (first, second)]
    assert [min(range(len(film)), key=error.__getitem__) for error in errors] == [2, 78]
