"""`gp-jax demo`: an address that answers, an end by Ctrl-C, and what cannot be served."""

import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import uvicorn
from starlette.testclient import TestClient

from gp_jax.cli.main import main


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_it_serves_at_the_address_that_it_prints_until_ctrl_c(host, tmp_path):
    command = [sys.executable, "-m", "gp_jax", "demo", "--port", "0", "--host", host]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"TMPDIR": str(tmp_path), "PATH": ""})
    assert server.stdout is not None
    try:
        address = server.stdout.readline().strip()
        port, token = re.fullmatch(r"http://[^:/]+:(\d+)/(?:\?token=(.+))?", address).groups()
        assert bool(token) == (host == "0.0.0.0")
        bare = f"http://127.0.0.1:{port}/"
        if token:
            with pytest.raises(urllib.error.HTTPError, match="403"):
                urllib.request.urlopen(bare)
        else:
            assert b"Outpaint a clip" in urllib.request.urlopen(bare).read()
        assert len(list(tmp_path.iterdir())) == 1
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 130
        assert not list(tmp_path.iterdir())
    finally:
        server.kill()
        server.stdout.close()


def test_every_address_of_this_machine_alone_answers(monkeypatch, capsys):
    class Asked:
        def __init__(self, app):
            self.app = app

        def run(self, sockets):
            with TestClient(self.app, base_url=capsys.readouterr().out.strip()) as client:
                assert client.get("/").status_code == 200

    monkeypatch.setattr(uvicorn, "Config", lambda app, **options: app)
    monkeypatch.setattr(uvicorn, "Server", Asked)
    assert main(["demo", "--port", "0", "--host", "127.0.0.2"]) == 0


COMPILES = """
import atexit, hashlib, os, sys
from gp_jax.cli.main import main
from gp_jax.web.tasks import Tasks

Tasks._work = lambda self: hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
atexit.register(os.abort)  # as XLA does when Python ends under it
sys.exit(main(["demo", "--port", "0"]))
"""


def test_a_task_that_compiles_ends_with_the_server(tmp_path):
    environment = {"TMPDIR": str(tmp_path), "PATH": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", COMPILES], env=environment, **pipes) as server:
        try:
            assert b"Outpaint" in urllib.request.urlopen(server.stdout.readline().strip()).read()
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 130 and server.stderr.read() == "gp-jax: Ctrl-C ends it\n"
        finally:
            server.kill()
    assert not list(tmp_path.iterdir())


def test_a_port_in_use_is_told(capsys):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "--port", str(port)]) == 2
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--port", "70000"], "--port 70000 is no port"),
        (["--host", "no.such.host.invalid"], "choose another --port or --host"),
        (["--host", "a..b"], "choose another --port or --host"),
        (["--checkpoint", "nowhere"], "there is no checkpoint nowhere"),
        (["--lora", "nowhere.safetensors"], "there is no LoRA nowhere.safetensors"),
    ],
)
def test_what_cannot_be_served_is_told(arguments, says, capsys):
    assert main(["demo", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_what_is_not_installed_is_told(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 2
    assert "pip install 'gp_jax[web]'" in capsys.readouterr().err
