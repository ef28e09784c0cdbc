"""A disk that fills up while a run saves: one sentence, and nothing that was saved before is lost."""

import contextlib
import os
import subprocess
import time

import pytest

from gp_jax.errors import UserError
from tests.training import small
from tests.training.test_loop import lines, run


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of 24 MB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system here: {error}")
    yield tmp_path
    subprocess.run(["umount", "--lazy", str(tmp_path)], check=True)


def test_a_full_disk_is_told_and_the_run_goes_on_once_there_is_room(records, disk, tmp_path_factory):
    filler = disk / "filler"

    def fill(line):
        """Once the first checkpoint is there."""
        if line["step"] == 4:
            while not (disk / "run" / "state" / "3").exists():
                time.sleep(0.01)
            file = os.open(filler, os.O_CREAT | os.O_WRONLY)
            with contextlib.suppress(OSError):
                while True:
                    os.write(file, bytes(4096))
            os.close(file)

    with pytest.raises(UserError, match=r"cannot (save to|write) "):
        run(small.autoencoder(records, steps=8), disk / "run", show=fill)
    assert "3" in [path.name for path in (disk / "run" / "state").iterdir()]
    filler.unlink()
    assert run(small.autoencoder(records, steps=8), disk / "run")
    other = tmp_path_factory.mktemp("other")
    assert run(small.autoencoder(records, steps=8), other)
    assert lines(disk / "run") == lines(other)
