"""Whatever happens to a writer, its target is the old one or the new one, whole; and nothing is left of it."""

import contextlib
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gp_jax import files
from gp_jax.errors import UserError
from gp_jax.files import locked, replacing, replacing_folder, reserved, write_json, write_text

PARTS = 3


def write_file(path, value, **options):
    with replacing(path, **options) as temporary, temporary.open("w") as file:
        for _ in range(PARTS):
            file.write(value)
            file.flush()


def write_folder(path, value, **options):
    with replacing_folder(path, **options) as temporary:
        for part in range(PARTS):
            (temporary / f"{part}" / "deep").mkdir(parents=True)
            (temporary / f"{part}" / "deep" / "value").write_text(value)


def read(path):
    """What one of the two has written; fails where it is not whole."""
    if path.is_dir():
        values = [(path / f"{part}" / "deep" / "value").read_text() for part in range(PARTS)]
        assert len(values) == len(list(path.iterdir()))
    else:
        text = path.read_text()
        values = [text[: len(text) // PARTS]] * PARTS
        assert text == "".join(values)
    assert len(set(values)) == 1
    return values[0]


KINDS = pytest.mark.parametrize("write", [write_file, write_folder])


@pytest.fixture(params=["at once", "in two steps"])
def exchange(request, monkeypatch):
    """With and without a file system that knows conditions."""
    if request.param == "in two steps":
        monkeypatch.setattr(files, "_rename", lambda *_: False)


@KINDS
def test_the_new_takes_the_place_of_the_old(tmp_path, write, exchange):
    target = tmp_path / "new folder" / "target.v1.5"
    for value in ("a", "b"):
        write(target, value)
        assert read(target) == value
    assert os.listdir(target.parent) == [target.name]


@KINDS
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, OSError(28, "No space left on device")])
def test_a_failure_leaves_the_old(tmp_path, write, error):
    target = tmp_path / "target"
    write(target, "a")
    how = replacing if write is write_file else replacing_folder
    with pytest.raises(UserError if isinstance(error, OSError) else error), how(target):
        raise error
    assert read(target) == "a" and os.listdir(tmp_path) == ["target"]


@KINDS
def test_what_exists_is_kept_unless_it_may_be_replaced(tmp_path, write, exchange):
    target = tmp_path / "target"
    write(target, "a", overwrite=False)
    with pytest.raises(UserError, match="exists already"):
        write(target, "b", overwrite=False)
    assert read(target) == "a"


@KINDS
def test_what_appears_meanwhile_is_kept(tmp_path, write, exchange):
    target = tmp_path / "target"
    how = replacing if write is write_file else replacing_folder
    with pytest.raises(UserError, match="exists already"), how(target, overwrite=False) as temporary:
        write(temporary, "b")
        write(target, "a")
    # Between the last look and the rename, too.
    looked = files._target
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="exists already"):
        target.rename(tmp_path / "aside")

        def look(path, overwrite):
            resolved = looked(path, overwrite)
            if list(tmp_path.glob(".gp_jax-*.new*")):
                (tmp_path / "aside").rename(target)
            return resolved

        patch.setattr(files, "_target", look)
        write(target, "b", overwrite=False)
    assert read(target) == "a" and os.listdir(tmp_path) == ["target"]


@KINDS
def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path, write):
    real, link = tmp_path / "elsewhere" / "real", tmp_path / "link"
    for value in ("a", "b"):  # first it points to nothing
        link.unlink(missing_ok=True)
        link.symlink_to("elsewhere/real")
        write(link, value)
        assert link.is_symlink() and not real.is_symlink() and read(real) == value
    assert os.listdir(real.parent) == ["real"]


@KINDS
@pytest.mark.parametrize("mode", [0o640, 0o600, 0o755])
def test_the_mode_is_that_of_the_old_and_of_the_umask_where_there_is_none(tmp_path, write, mode):
    target = tmp_path / "target"
    before = os.umask(0o027)
    try:
        write(target, "a")
        assert target.stat().st_mode & 0o777 == (0o640 if write is write_file else 0o750)
        mode |= 0o700 if target.is_dir() else 0
        target.chmod(mode)
        write(target, "b")
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == mode and read(target) == "b"


@pytest.mark.parametrize("suffix", ["", ".mp4", ".json"])
def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path, suffix):
    longest = tmp_path / ("ä" * 120 + "b" * (15 - len(suffix)) + suffix)
    assert len(os.fsencode(longest.name)) == 255
    write_file(longest, "a")
    assert read(longest) == "a"


def cannot(folder):
    """By what stands in the way: a path, and what it has to be told."""
    (folder / "file").write_text("")
    (folder / "empty").mkdir()
    (folder / "full" / "more").mkdir(parents=True)
    (folder / "fixed").write_text("")
    (folder / "fixed").chmod(0o444)
    (folder / "loop").symlink_to("loop")
    return {
        "a file on the way": (folder / "file" / "x", "Not a directory"),
        "far on the way": (folder / "file" / "x" / "y", "Not a directory"),
        "too long": (folder / ("x" * 256), "too long"),
        "read-only": (folder / "fixed", "read-only"),
        "a link to itself": (folder / "loop", "symbolic links"),
        "no file may be there": (Path("/proc/x"), ""),
        "a device": (Path("/dev/null"), "it is no"),
    }


@KINDS
def test_what_stands_in_the_way_is_one_sentence_before_the_work(tmp_path, write):
    cases = cannot(tmp_path)
    other = ("full", "is a folder") if write is write_file else ("file", "is no folder")
    cases["of the other kind"] = tmp_path / other[0], other[1]
    before = sorted(tmp_path.rglob("*"))
    how = replacing if write is write_file else replacing_folder
    for path, told in cases.values():
        with pytest.raises(UserError) as caught, how(path):
            raise AssertionError("the work began")
        assert str(caught.value).startswith(f"cannot write {path}: ") and told in str(caught.value)
        assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_within_a_folder_is_named_as_it_will_be(tmp_path):
    with (
        pytest.raises(UserError, match=f"cannot write {tmp_path}/target/config.json: it is a folder"),
        replacing_folder(tmp_path / "target") as temporary,
    ):
        (temporary / "config.json").mkdir()
        write_json(temporary / "config.json", {})


LOOP = """
import sys
sys.path.insert(0, {tests!r})
from test_files import *
if {two_steps}:
    files._rename = lambda *_: False
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
print("begins", flush=True)
while True:
    {write}(Path({target!r}), {value!r} * 20000)
"""


def begin(target, write, value, two_steps=False):
    code = LOOP.format(
        tests=str(Path(__file__).parent), write=write.__name__, target=str(target), value=value, two_steps=two_steps
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"begins\n"
    return process


@KINDS
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_writer_leaves_a_whole_target_and_the_next_one_removes_the_rest(tmp_path, write, how):
    target, chance = tmp_path / "target", random.Random(7)
    write(target, "a" * 20000)
    for value in "bcd":
        process = begin(target, write, value)
        time.sleep(chance.uniform(0, 0.1))
        process.send_signal(how)
        _, said = process.communicate()
        assert process.returncode == (-how if how == signal.SIGKILL else 143), said
        assert set(read(target)) <= set("abcd")
    write(target, "e")
    assert read(target) == "e" and os.listdir(tmp_path) == ["target"]


@pytest.mark.parametrize("how", ["replacing", "replacing_folder"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_in_the_middle(tmp_path, how, number):
    """SIGTERM leaves nothing, since `gp-jax` makes an exception of it; SIGKILL what the next one removes."""
    with holder(f"{how}({str(tmp_path / 'target')!r}) as temporary") as process:
        assert len(os.listdir(tmp_path)) == (2 if how == "replacing_folder" else 1)
        write_text(tmp_path / "other", "the living are let alone")
        assert len(os.listdir(tmp_path)) == (3 if how == "replacing_folder" else 2)
        process.send_signal(number)
        process.wait()
        assert (os.listdir(tmp_path) == ["other"]) == (number == signal.SIGTERM)
    write_text(tmp_path / "other", "")
    assert os.listdir(tmp_path) == ["other"]


def test_an_old_folder_that_was_moved_aside_is_put_back_by_the_next_writer(tmp_path):
    """Killed between the two renames of a file system that cannot exchange names."""
    chance, lost = random.Random(3), 0
    target = tmp_path / "target"
    write_folder(target, "a")
    for _ in range(3):
        process = begin(target, write_folder, "b", two_steps=True)
        time.sleep(chance.uniform(0, 0.05))
        process.kill()
        process.communicate()
        lost += not target.exists()
        write_text(tmp_path / "other", "x")
        assert set(read(target)) <= {"a", "b"} and sorted(os.listdir(tmp_path)) == ["other", "target"]


@KINDS
def test_two_writers_at_once(tmp_path, write):
    """Readers see whole targets all the while, and nobody removes what another is writing."""
    target = tmp_path / "target"
    write(target, "a" * 20000)
    processes = [begin(target, write, value) for value in "bc"]
    begun, seen = time.monotonic(), set()
    while time.monotonic() < begun + 0.5 or (not {"b", "c"} <= seen and time.monotonic() < begun + 60):
        with contextlib.suppress(FileNotFoundError, AssertionError) if target.is_dir() else contextlib.nullcontext():
            seen |= set(read(target))
    for process in processes:
        assert process.poll() is None, process.stderr.read()
        process.kill()
        process.communicate()
    assert {"b", "c"} <= seen <= {"a", "b", "c"}
    write(target, "d")
    assert os.listdir(tmp_path) == ["target"]


@KINDS
def test_a_full_disk_is_told_and_leaves_the_old(tmp_path, write):
    target = tmp_path / "target"
    write(target, "a")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, limits[1]))
    try:
        with pytest.raises(UserError, match=f"cannot write {target}: File too large"):
            write(target, "b" * 20000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert read(target) == "a" and os.listdir(tmp_path) == ["target"]


HOLD = """
import signal, sys
from gp_jax.files import *
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
with {call}:
    print('has it', flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def holder(call):
    """Another process that has a lock."""
    code = HOLD.format(call=call)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"has it\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("make", [locked, reserved])
def test_a_second_program_is_refused_until_the_first_ends_however_it_does(tmp_path, make):
    path = tmp_path / ("long name " * 20)
    with holder(f"{make.__name__}({str(path)!r})") as process:
        with pytest.raises(UserError, match=f"is in use by process {process.pid} on .*: ") as caught, make(path):
            pass
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    with make(path):
        pass
    assert not [rest for rest in tmp_path.rglob("*") if rest != path], "a lock that is given back leaves no file"


def test_folders_for_a_reservation_go_again_where_nothing_was_made(tmp_path):
    with pytest.raises(UserError), reserved(tmp_path / "a" / "b" / "file"):
        raise UserError("no")
    assert not list(tmp_path.iterdir())
    with reserved(tmp_path / "a" / "b" / "file"):
        write_text(tmp_path / "a" / "text", "kept")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["text"]


def test_parts_are_shared_and_the_whole_is_not(tmp_path):
    with locked(tmp_path, shared=True), locked(tmp_path, "0-of-2"):
        with locked(tmp_path, shared=True), locked(tmp_path, "1-of-2"):
            pass
        for arguments in [(), ("0-of-2",)]:
            with pytest.raises(UserError, match="in use"), locked(tmp_path, *arguments):
                pass
    with locked(tmp_path), pytest.raises(UserError, match="in use"), locked(tmp_path, shared=True):
        pass


def test_without_locks_work_goes_on_and_it_is_said_once(tmp_path, monkeypatch, capsys):
    def flock(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with locked(tmp_path / "run"):
        write_text(tmp_path / "run" / "a", "text")
    assert capsys.readouterr().err.count("cannot be locked") == 1
    assert (tmp_path / "run" / "a").read_text() == "text"


def test_what_only_looks_like_a_lock_is_no_obstacle_and_leads_nowhere(tmp_path):
    outside = tmp_path / "outside"
    for number, text in enumerate(["", "[]", "[" * 4000, '{"target": ["a"]}', '{"target": "../outside"}', "\xff"]):
        write_folder(tmp_path / "in" / f".gp_jax-{number:08x}.old", "a")
        (tmp_path / "in" / f".gp_jax-{number:08x}.lock").write_text(text)
    (tmp_path / "in" / ".gp_jax-aaaaaaaa.lock").symlink_to(outside)
    write_text(tmp_path / "in" / "file", "text")
    assert (tmp_path / "in" / "file").read_text() == "text" and not outside.exists()


def test_threads_write_beside_each_other(tmp_path):
    threads = [
        threading.Thread(target=lambda n=n: [write_json(tmp_path / f"{n}.json", {"n": n}) for _ in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(os.listdir(tmp_path)) == [f"{n}.json" for n in range(4)]
