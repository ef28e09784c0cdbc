"""However many devices and processes share the work, the losses are the same; a checkpoint goes from any to any."""

import socket
import time

import jax
import numpy as np
import pytest

from gp_jax.parallel import make_mesh
from gp_jax.training.loop import train
from tests.training import processes, small

STEPS = 2
MESHES = {
    "data=8": 8,
    "fsdp=4": 4,
    "tensor=2": 2,
    "context=2": 2,
    "fsdp=4,tensor=2": 8,
}


def losses(workdir):
    return [[line[name] for name in ("loss", "grad_norm")] for line in processes.lines(workdir)]


def run(config, workdir, mesh):
    assert train(config, workdir, mesh=make_mesh(mesh, jax.devices()[: MESHES.get(mesh, 1)]))
    return losses(workdir)


@pytest.fixture(scope="module")
def config(records, checkpoint):
    def make(steps=STEPS):
        made = small.config("keyframes", records, checkpoint, steps=steps)
        made.optimizer.update({"warmup": 0, "schedule": "constant"})
        made.checkpoints.interval = STEPS
        return made

    return make


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """Two steps on one device, and two more."""
    return run(config(2 * STEPS), tmp_path_factory.mktemp("alone"), "data=1")


# Always; the others' axes are in test_all_axes_together, and in pairs in test_mesh_gradients.py.
QUICK = "fsdp=4,tensor=2"


@pytest.mark.parametrize("mesh", [pytest.param(x, marks=[] if x == QUICK else pytest.mark.slow) for x in MESHES])
def test_any_mesh_gives_the_losses_of_one_device_and_hands_its_state_to_it(config, alone, tmp_path, mesh):
    found = run(config(), tmp_path, mesh)
    np.testing.assert_allclose(found, alone[:STEPS], rtol=2e-4)
    np.testing.assert_allclose(run(config(2 * STEPS), tmp_path, "data=1"), alone, rtol=2e-3)


def test_all_axes_together_give_the_losses_of_one_device(records, checkpoint, alone, tmp_path):
    """On sixteen devices, which only a process of its own has."""
    call = f"config('keyframes', {str(records)!r}, {str(checkpoint)!r})"
    optimizer = {"rate": 3e-3, "warmup": 0, "schedule": "constant"}
    fields = {"mesh": "data=2,fsdp=2,tensor=2,context=2", "steps": STEPS, "optimizer": optimizer}
    file = processes.write_config(tmp_path / "config.py", call, **fields)
    processes.finish(processes.start(file, tmp_path / "run", tmp_path / "cache", devices=16))
    np.testing.assert_allclose(losses(tmp_path / "run"), alone[:STEPS], rtol=2e-4)


def two_processes(file, workdir, devices):
    """Starts both."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [
        processes.start(
            file,
            workdir,
            workdir.with_name(f"cache{number}"),
            devices,
            ["--coordinator", address, "--num-processes", "2", "--process-id", str(number)],
        )
        for number in range(2)
    ]


@pytest.mark.slow
def test_two_processes_of_four_devices_give_the_losses_of_one(records, checkpoint, alone, tmp_path):
    """And their checkpoint goes on in a single process."""
    call = f"config('keyframes', {str(records)!r}, {str(checkpoint)!r})"
    optimizer = {"rate": 3e-3, "warmup": 0, "schedule": "constant"}
    fields = {"mesh": "data=4,fsdp=2", "steps": STEPS, "optimizer": optimizer, "checkpoints": {"interval": STEPS}}
    file = processes.write_config(tmp_path / "config.py", call, **fields)
    for process in two_processes(file, tmp_path / "run", devices=4):
        processes.finish(process)
    np.testing.assert_allclose(losses(tmp_path / "run"), alone[:STEPS], rtol=2e-4)
    config = small.config("keyframes", records, checkpoint, steps=2 * STEPS)
    config.optimizer.update(optimizer)
    np.testing.assert_allclose(run(config, tmp_path / "run", "data=1"), alone, rtol=2e-3)
    assert (tmp_path / "run" / "checkpoint" / "unet" / "model.safetensors").is_file()


def test_sigterm_to_one_process_stops_both_after_the_same_step(records, tmp_path):
    file = processes.write_config(tmp_path / "config.py", f"autoencoder({str(records)!r})", steps=100_000)
    first, second = running = two_processes(file, tmp_path / "run", devices=1)
    while not processes.lines(tmp_path / "run") and first.poll() is None and second.poll() is None:
        time.sleep(0.05)
    second.terminate()
    for process in running:
        assert "the state is saved" in processes.finish(process)
    steps = [int(path.name) for path in (tmp_path / "run" / "state").iterdir()]
    config = small.autoencoder(records, steps=max(steps) + 1)
    run(config, tmp_path / "run", "data=1")
    assert [line["step"] for line in processes.lines(tmp_path / "run")] == [*range(1, max(steps) + 2)]
