"""The ablation's command: what is wrong with it is one sentence."""

import pytest

from gp_jax.cli.main import main

DATA = ["ablation", "--protocol", "m3ddm-256", "--data", "nowhere", "--output", "out"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--arm"),
        (["--arm", "est"], "'est' is not of the form NAME=CHECKPOINT"),
        (["--arm", "est=a,"], "'est=a,' is not of the form"),
        (["--arm", "est=a", "--arm", "est=b"], "an arm is given twice"),
        (["--arm", "est=a", "--seeds", "0;1"], "'0;1' is not of the form 0,1,2"),
        (["--arm", "everything=tiny"], "there is no arm everything: choose of baseline, est"),
        (["--arm", "hierarchical=nowhere"], "there is no checkpoint nowhere"),
        (["--arm", "baseline=tiny"], "has 3D windowed attention"),
    ],
)
def test_mistakes_are_told_in_one_sentence(arguments, problem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*DATA, *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert problem in error
    assert not (tmp_path / "out").exists()
