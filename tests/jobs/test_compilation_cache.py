"""Programs are kept where they may be, and nothing breaks where they may not."""

import os
import subprocess
import sys

import jax
import pytest

from gp_jax.jobs import compilation_cache

NAMES = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")

# Compiles one program and says whether it came from the cache.
PROGRAM = """
import jax, jax.numpy as jnp
from gp_jax.jobs import compilation_cache
compilation_cache.LEAST_SECONDS = 0
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
compilation_cache.keep_programs()
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
print(len(hits) > 0)
"""


def start(cache) -> str:
    """All that a new process says."""
    names = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "XLA_FLAGS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"GP_JAX_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout


def test_a_second_process_compiles_nothing(tmp_path):
    assert [start(tmp_path), start(tmp_path)] == ["False\n", "True\n"]
    for entry in (tmp_path / "programs").iterdir():
        entry.write_bytes(entry.read_bytes()[:-50])
    assert start(tmp_path) == "False\n", "damaged entries are compiled anew, without a word"


@pytest.fixture
def chosen(monkeypatch):
    """keep_programs() with some environment -> JAX's folder; all is put back in the end."""
    before = {name: getattr(jax.config, name) for name in NAMES}

    def choose(own=None, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        jax.config.update("jax_compilation_cache_dir", own)
        compilation_cache.keep_programs()
        return jax.config.jax_compilation_cache_dir

    yield choose
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_users_cache_unless_somebody_chose_another(chosen, tmp_path):
    assert chosen(GP_JAX_CACHE=tmp_path) == str(tmp_path / "programs")
    assert (tmp_path / "programs").stat().st_mode & 0o777 == 0o700
    assert chosen(own="mine", GP_JAX_CACHE=tmp_path) == "mine"


def test_it_can_be_switched_off(chosen, tmp_path):
    assert chosen(GP_JAX_CACHE=tmp_path, GP_JAX_COMPILATION_CACHE="off") is None
    assert not any(tmp_path.iterdir())


def test_it_does_without_a_folder(chosen, tmp_path):
    (tmp_path / "file").touch()
    assert chosen(GP_JAX_CACHE=tmp_path / "file") is None


def test_the_oldest_are_swept(tmp_path, monkeypatch):
    for age in range(6):
        (tmp_path / f"{age}-cache").write_bytes(bytes(100))
        os.utime(tmp_path / f"{age}-cache", (1e9 - age, 1e9 - age))
    monkeypatch.setattr(compilation_cache, "MOST_BYTES", 350)
    compilation_cache._sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0-cache", "1-cache", "2-cache"]
