"""A signal ends a command at once and cleanly, be it at work in Python or deaf in the code of a library."""

import os
import signal
import subprocess
import sys
import time

import pytest

WRITER = """
import hashlib, sys, time
from gp_jax.cli import ending, main, outpaint
from gp_jax.files import replacing

def run(arguments):
    with replacing(arguments.output) as temporary:
        temporary.write_text("half")
        print("writes", flush=True)
        {wait}

outpaint.run, ending.PATIENCE = run, {patience}
sys.exit(main.main(["outpaint", "in", sys.argv[1], "--aspect", "16:9"]))
"""
# What compiling is for Python: a single instruction, which lets other threads work.
DEAF = 'hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)'
PATIENCE = 0.5


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)], ids=lambda x: str(int(x))
)
@pytest.mark.parametrize("wait, seconds", [("time.sleep(60)", 0), (DEAF, PATIENCE)], ids=["hears", "deaf"])
def test_a_signal_that_asks_for_the_end_leaves_nothing(tmp_path, number, code, wait, seconds):
    program = WRITER.format(wait=wait, patience=PATIENCE)
    with subprocess.Popen([sys.executable, "-c", program, tmp_path / "out"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"writes\n" and len(os.listdir(tmp_path)) == 2
        time.sleep(0.2)
        begin = time.monotonic()
        process.send_signal(number)
    assert process.returncode == code and not os.listdir(tmp_path)
    assert seconds <= time.monotonic() - begin < seconds + 20
