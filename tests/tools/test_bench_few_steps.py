"""Every sampler gets a row for every number of steps, with what was measured of it and its time."""

import sys

import bench_few_steps

from gp_jax.methods.classical import mirror
from gp_jax.methods.globalpaint import method
from gp_jax.methods.options import NoOptions
from tests.evaluation import small_protocol


def test_rows_tell_sampler_steps_scores_and_time(tmp_path, monkeypatch, capsys):
    small_protocol.install(monkeypatch)
    monkeypatch.delitem(bench_few_steps.METRICS, "lpips")  # has no stand-in
    wishes = []

    class Pipeline:
        """Stands in for `OutpaintPipeline`."""

        @classmethod
        def from_pretrained(cls, *_, **__):
            return cls()

        def prepare(self, clip, canvas, options, work):
            wishes.append((options.sampler, options.steps))
            return mirror().prepare(clip, canvas, NoOptions())

    monkeypatch.setattr(method.GlobalPaint, "Pipeline", Pipeline)
    data = small_protocol.write_clips(tmp_path / "clips")
    arguments = ["--protocol", "small", "--dataset", "folder", "--data", str(data), "--frames", "16"]
    arguments += ["--output", str(tmp_path / "out"), "--sampler", "lcm,tcd", "--steps", "1,4"]
    monkeypatch.setattr(sys, "argv", ["bench_few_steps.py", *arguments])
    bench_few_steps.main()
    assert set(wishes) == {("lcm", 1), ("lcm", 4), ("tcd", 1), ("tcd", 4)}
    printed = capsys.readouterr().out
    assert "3 clips of 16 frames, unknown region" in printed
    rows = [[cell.strip(" *") for cell in line.split("|")[1:-1]] for line in printed.splitlines() if "| " in line]
    assert rows[0][:2] == ["sampler", "steps"] and rows[0][-1] == "seconds per frame"
    assert [row[:2] for row in rows[1:]] == [["lcm", "1"], ["lcm", "4"], ["tcd", "1"], ["tcd", "4"]]
    assert all(float(cell) >= 0 for row in rows[1:] for cell in row[2:]) and len(rows[1]) == 6
