"""The ablation: which runs it makes, what it makes of their numbers, and what it refuses."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.evaluation import ablation
from gp_jax.evaluation.harness import Outcome
from gp_jax.evaluation.table import Change, Interval
from gp_jax.files import write_json
from tests import small_networks
from tests.evaluation import small_protocol, small_results


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return small_networks.write(tmp_path_factory.mktemp("checkpoint"))


def test_an_arms_number_is_its_mean_with_students_interval():
    assert ablation.mean([[2.0]]) == Interval(2.0, None)
    assert ablation.mean([[1.0, None]]) is None
    np.testing.assert_allclose(ablation.mean([[1.0, 2.0, 3.0]]), (2.0, 4.302653 / 3**0.5))  # t of 2 degrees
    # Several checkpoints: their means are the sample, however many seeds each has.
    np.testing.assert_allclose(ablation.mean([[1.0, 3.0], [5.0, 7.0]]), ablation.mean([[2.0, 6.0]]))


def test_arms_share_the_runs_in_which_they_agree():
    one, two = Path("one"), Path("two")
    folders = {"est": [one, two], "global-tokens": [one], "hierarchical": [one], "sequential": [one]}
    runs = ablation.name_runs(folders, (0, 5))
    assert list(runs.values()) == [
        *("est-1-seed0", "est-1-seed5", "est-2-seed0", "est-2-seed5"),
        *("sequential-seed0", "sequential-seed5"),
    ]
    assert {(run.checkpoint, run.plan) for run in runs} == {
        (one, "hierarchical"),
        (two, "hierarchical"),
        (one, "sequential"),
    }


def test_the_table_has_a_row_for_each_arm(checkpoint, tmp_path, monkeypatch):
    done = []

    def evaluate(output, *, methods, **data):
        done.extend((name, one.options) for name, one in methods.items())
        small_results.write(Path(output), [name for name, _ in done])
        return Outcome(True, ["a problem"])

    monkeypatch.setattr(ablation, "evaluate", evaluate)
    arms = {"sequential": [checkpoint], "hierarchical": [checkpoint]}
    table, problems = ablation.ablate(tmp_path, arms, seeds=(0, 4), steps=3)

    assert [name for name, _ in done] == [f"{arm}-seed{seed}" for arm in sorted(arms) for seed in (0, 4)]
    assert [(s.plan, s.seed, s.steps) for _, s in done] == [
        (plan, seed, 3) for plan in ("hierarchical", "sequential") for seed in (0, 4)
    ]
    assert problems == ["a problem"]
    whole, unknown, *changes, published = table.sections
    assert (published.ours, published.rows[0][5]) == (False, 373.42)
    for section in (whole, unknown):
        assert [row[:2] for row in section.rows] == [("hierarchical", "1 x 2"), ("sequential", "1 x 2")]
        # The runs' numbers are 1 apart, and the arms' 2.
        first, second = (row[2] for row in section.rows)
        np.testing.assert_allclose([second.mean - first.mean, first.half], [2, 12.7062 / 2], rtol=1e-5)
        assert section.rows[0][3] is None  # SSIM was not measured
        np.testing.assert_allclose(section.rows[0][-1], 0.1)
    for section in changes:  # between runs of one seed, which are all alike
        [row] = section.rows
        assert row[:2] == ("sequential - hierarchical", "1 x 2") and isinstance(row[2], Change)
        np.testing.assert_allclose(row[2], (2, 0), atol=1e-9)
        assert row[3] is None
    assert {path.name for path in tmp_path.glob("ablation.*")} == {"ablation.md", "ablation.csv"}


@pytest.mark.parametrize(
    ("arms", "problem"),
    [
        ({"baseline": ["CHECKPOINT"]}, "baseline: .* has 3D windowed attention"),
        ({"est": ["CHECKPOINT"]}, "est: .* has global tokens"),
        ({"global-tokens": ["PLAIN"]}, "global-tokens: .* has no 3D windowed attention"),
        ({"full": ["CHECKPOINT"]}, "no arm full"),
        ({"hierarchical": ["CHECKPOINT", "CHECKPOINT"]}, "hierarchical: a checkpoint is given twice"),
        ({"est": ["nowhere"]}, "no checkpoint nowhere"),
    ],
)
def test_checkpoints_that_do_not_fit_their_arm_are_refused_before_anything_runs(
    checkpoint, tmp_path, monkeypatch, arms, problem
):
    plain = dataclasses.replace(small_networks.UNET, window=None, global_tokens=False)
    write_json(tmp_path / "plain" / "unet" / "config.json", plain.to_json())
    write_json(tmp_path / "plain" / "config.json", small_networks.SETTINGS.to_json())
    folders = {"CHECKPOINT": checkpoint, "PLAIN": tmp_path / "plain"}
    monkeypatch.setattr(ablation, "evaluate", None)
    with pytest.raises(UserError, match=problem):
        ablation.ablate(tmp_path / "out", {arm: [folders.get(c, c) for c in given] for arm, given in arms.items()})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"steps": 1001}, "1001"),
        ({"clips": ["swan"]}, "no clip swan"),
        ({"protocol": "large"}, "no protocol large"),
        ({"data": "nowhere"}, "no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_known_before_anything_is_written(checkpoint, tmp_path, monkeypatch, change, problem):
    small_protocol.install(monkeypatch)
    data = {"protocol": "small", "dataset": "folder", "data": small_protocol.write_clips(tmp_path / "clips")}
    with pytest.raises(UserError, match=problem):
        ablation.ablate(tmp_path / "out", {"hierarchical": [checkpoint], "sequential": [checkpoint]}, **data | change)
    assert not (tmp_path / "out").exists()
