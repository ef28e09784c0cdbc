"""`gp-jax bench` in two processes: what both devices do together, told by the first."""

import re

import pytest

from gp_jax.cli.main import main
from tests.cli.test_bench import CONFIG
from tests.parallel import together

PIPELINE = ["--source", "16x16", "--size", "32x16", "--frames", "7", "--steps", "2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "what, more, mesh, count",
    [
        ("step", [], "fsdp=2", 2),
        ("denoise", [], "tensor=2", 2),
        ("denoise", ["--segments", "2"], "data=2,tensor=2", 4),
        ("vae", [], "data=2", 2),
        ("pipeline", PIPELINE, "fsdp=2", 2),
    ],
)
def test_the_first_prints_the_table_of_all(cache, tmp_path, what, more, mesh, count):
    (tmp_path / "config.py").write_text(CONFIG)
    request = ["bench", what, "--config", tmp_path / "config.py", "--repeats", "2", *more]
    # The first is never the slowest.
    late = "from gp_jax.bench import measure\ntook = measure.seconds_of\n"
    late += "measure.seconds_of = lambda call: took(call) + 50 * number"
    ends = together.commands(request, cache, mesh, count, before=late)
    assert [end.code for end in ends] == [0] * count, ends
    lines = [re.split(r"\s{2,}", line) for line in ends[0].printed.splitlines() if line]
    head = next(index for index, line in enumerate(lines) if line[0] == "devices")
    rows = [dict(zip(lines[head], cells)) for cells in lines[head + 1 :] if cells[0].endswith("x cpu")]
    assert len(rows) == (2 if what == "vae" else 1) and all("seconds" not in end.printed for end in ends[1:]), ends
    for row in rows:
        assert (row["devices"], row["mesh"]) == (f"{count} x cpu", mesh)
        slowest = 50 * (count - 1) / (4 if what == "denoise" else 1)  # of four calls in a row one is told
        assert what == "pipeline" or slowest <= float(row["seconds"]) < slowest + 50, row
        assert float(row["frames/s"]) > 0


@pytest.mark.parametrize(
    "what, more, says",
    [
        ("metrics", [], "--coordinator is of step and denoise and vae and pipeline, not of metrics"),
        ("step", ["--on", "1"], "give one of them"),
        ("step", ["--on-paper", "8"], "give one of them"),
        ("denoise", ["--against", "torch"], "leave out --against"),
        ("pipeline", [], "give --mesh too"),
        ("step", ["--num-processes", "2"], "goes with --num-processes and --process-id"),
    ],
)
def test_what_cannot_be_shared_is_refused(tmp_path, capsys, what, more, says):
    (tmp_path / "config.py").write_text(CONFIG)
    config = [] if what == "metrics" else ["--config", str(tmp_path / "config.py")]
    assert main(["bench", what, *config, "--coordinator", "127.0.0.1:1", *more]) == 2
    assert says in capsys.readouterr().err
