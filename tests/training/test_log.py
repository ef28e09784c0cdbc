"""The log reads as if the run had never stopped."""

import json

import jax.numpy as jnp

from gp_jax.training.log import FILE, Log, read_log


def test_a_run_that_goes_on_drops_the_lines_after_its_checkpoint(tmp_path):
    shown = []
    log = Log(tmp_path, 0, shown.append)
    for step in (1, 2, 3):
        log.add(step, loss=jnp.float32(step), by_time=jnp.array([step, jnp.nan]))
        assert len(read_log(tmp_path)) == step - 1, "a line is fetched when the next one comes"
    log.close()
    assert shown == read_log(tmp_path) == [{"step": i, "loss": i, "by_time": [i, None]} for i in (1, 2, 3)]

    with open(tmp_path / FILE, "a") as file:
        file.write('{"step": 4, "lo')  # killed here
    log = Log(tmp_path, 2, shown.append)
    log.add(3, loss=0.5)
    log.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) >= 1
    lines = [json.loads(line) for line in (tmp_path / FILE).read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 1), (2, 2), (3, 0.5)]
