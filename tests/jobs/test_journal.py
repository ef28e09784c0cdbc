"""What was done is done: pieces come back bit for bit, of the same work only, and never damaged."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.jobs.journal import WORK, Journal, holds_work, name_of, remembering

OF = {
    "source": {"frames": 9, "sha256": "a" * 64},
    "canvas": {"height": 4},
    "checkpoint": {"unet": "b" * 64, "vae": "c" * 64},
    "seed": 3,
    "prompt": None,
}
PIECE = {"0": np.float32([[1, 2], [3, np.inf]]), "7": np.arange(3, dtype=np.int32), "none": np.zeros((0, 2))}


def write(folder, of=OF):
    with Journal(folder, of) as journal:
        journal.piece("a", lambda: PIECE)
    return next(folder.glob("a-*"))


def forbidden():
    raise AssertionError("it was made already")


def test_a_piece_is_made_once(tmp_path):
    write(tmp_path / "work")
    for _ in range(2):
        with Journal(tmp_path / "work", OF) as journal:
            assert journal.has("a") and not journal.has("b") and holds_work(journal.folder)
            again = journal.piece("a", forbidden)
            assert again.keys() == PIECE.keys()
            for key, array in PIECE.items():
                np.testing.assert_array_equal(again[key], array, strict=True)


def test_a_piece_takes_the_place_of_another(tmp_path):
    with Journal(tmp_path, OF) as journal:
        journal.keep("a.state", {"0": np.float32([0])})
        old = next(tmp_path.glob("a.state-*"))
        data = old.read_bytes()
        journal.piece("a", lambda: PIECE)
        for _ in range(2):
            journal.keep("a.state", {"0": np.float32([1])})
        assert not old.exists() and journal.find("a.state")["0"] == 1 and journal.find("b") is None
        old.write_bytes(data)  # killed before the old one was removed: either will do
        assert journal.find("a.state")["0"] in (0, 1)
        journal.drop("a.state")
        assert not journal.has("a.state") and journal.has("a")


@pytest.mark.parametrize("place", [0, 9, 60, -1, "cut", "empty", "longer"])
def test_a_damaged_piece_is_made_again(tmp_path, place):
    path = write(tmp_path)
    data = bytearray(path.read_bytes())
    if isinstance(place, int):
        data[place] ^= 1
    path.write_bytes({"cut": data[:-1], "empty": b"", "longer": data + b" "}.get(place, data))
    calls = []
    with Journal(tmp_path, OF) as journal:
        assert not journal.has("a")
        again = journal.piece("a", lambda: calls.append(1) or PIECE)
        np.testing.assert_array_equal(again["0"], PIECE["0"])
        journal.piece("a", forbidden)
    assert calls == [1]


OTHERS = {
    "source": (OF | {"source": {"frames": 8, "sha256": "d" * 64}}, "another source (frames, sha256)"),
    "canvas": (OF | {"canvas": {"height": 5}}, "another canvas (height)"),
    "checkpoint": (OF | {"checkpoint": {"unet": "d" * 64, "vae": "c" * 64}}, "another checkpoint (unet)"),
    "option": (OF | {"seed": 4}, "seed 3, not 4"),
    "option by default": (OF | {"prompt": "a cat"}, "prompt by default, not 'a cat'"),
    "long option": (OF | {"prompt": "cat " * 99}, "another prompt"),
    "option that is new": (OF | {"steps": 9}, "steps by default, not 9"),
    "option that is gone": ({k: v for k, v in OF.items() if k != "seed"}, "seed 3, not by default"),
    "shots": ({"shots": [[0, 8]], "canvas": {"height": 5}}, "other shots"),  # named before what differs with them
    "kind": (OF | {"source": "frames"}, "another source"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_work_is_refused_and_named(tmp_path, name):
    path = write(tmp_path)
    of, words = OTHERS[name]
    with pytest.raises(UserError) as error:
        Journal(tmp_path, of)
    assert f"{tmp_path} was begun with {words}:" in str(error.value) and path.exists()


def test_two_owners_are_one_too_many(tmp_path):
    program = "import sys; from gp_jax.jobs.journal import Journal\nwith Journal(sys.argv[1], {}): pass"
    with Journal(tmp_path, {}):
        done = subprocess.run([sys.executable, "-c", program, tmp_path], stderr=subprocess.PIPE, text=True)
    assert done.returncode and "UserError" in done.stderr and "is in use by process" in done.stderr
    subprocess.run([sys.executable, "-c", program, tmp_path], check=True)


def test_an_error_releases_the_folder_and_keeps_what_stands(tmp_path):
    def fail():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError), Journal(tmp_path, OF) as journal:
        journal.piece("a", lambda: PIECE)
        journal.piece("b", fail)
    with Journal(tmp_path, OF) as journal:
        assert journal.has("a") and not journal.has("b")


def test_a_folder_of_other_things_is_let_alone(tmp_path):
    (tmp_path / "film.mp4").touch()
    for path in (tmp_path, tmp_path / "film.mp4"):
        with pytest.raises(UserError, match="another work folder"):
            Journal(path, OF)
    (tmp_path / "film.mp4").unlink()
    (tmp_path / ".gp_jax-12345678.lock").touch()  # of a writer that was killed in the first moment
    Journal(tmp_path, OF)
    (tmp_path / WORK).write_text("{")
    with pytest.raises(UserError, match=WORK):
        Journal(tmp_path, OF)


def test_what_a_level_makes_is_remembered_by_its_segments(tmp_path):
    segments = [SimpleNamespace(times=(-3, -1, 2), start=0), SimpleNamespace(times=(2, 5, 7), start=0)]
    asked = []

    def make(number, segments, completed):
        asked.append(name_of(number, segments))
        return {index: completed[0] + index for index in segments[0].times}

    assert remembering(None, make) is make
    for _ in range(2):
        with Journal(tmp_path, OF) as journal:
            remember = remembering(journal, make)
            for number, some in ((0, segments[:1]), (1, segments[:1]), (1, segments), (1, segments[1:])):
                made = remember(number, some, {0: np.float32([1, 2])})
                assert made.keys() == set(some[0].times)
                np.testing.assert_array_equal(made[some[0].times[2]], np.float32([1, 2]) + some[0].times[2])
    assert len(asked) == len({*asked}) == 4
