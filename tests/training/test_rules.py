"""Whatever a configuration holds: it is a run, or one sentence, before anything is compiled."""

import math
import random

import jax
import numpy as np
import pytest

from gp_jax.errors import UserError
from gp_jax.parallel import make_mesh
from gp_jax.training.checks import check_inputs
from gp_jax.training.config import STAGES, default_config
from gp_jax.training.rules import RULES, check_fields, shown
from gp_jax.training.setup import prepare
from tests.limits import bounded
from tests.training import small

ODD = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, 2**31, 2**32, 2**63, 2**64, 10**5000),
    *(-0.5, 0.0, 0.5, 1.0, 2.5, 1e-45, 1e30, 1e308, math.nan, math.inf, -math.inf, np.float32(1), np.int64(3), 1j),
    *("", " ", "x", "none", "data=2", "data=-2,fsdp=-2", "data", "=", "é\u202e", "a\0b", "a\nb", "x" * 100_000, "*("),
    *((), (0,), (1,), (2, 1), (0.1, 0.9), (0.9, 0.1), ("x",), (("x", 1.0),), (("*(", 1.0),), ((".", 0.0),), [], [[]]),
    *(
        {},
        {"x": 1},
        {"unet": {}},
        {"unet": {"x": 1}},
        {"unet": 1},
        b"x",
        object(),
        range(3),
        len,
        "/",
        "/dev/null",
        ".",
    ),
)


def replaced(config, field, value):
    """The same configuration with one value, of whatever type."""
    *path, last = field.split(".")
    with config.ignore_type(), config.unlocked():
        place = config
        for name in path:
            place = place[name]
        place[last] = value
    return config


def at(config, field):
    """The value of a field as it is kept: ml_collections makes the float 1.0 of True."""
    for name in field.split("."):
        config = config[name]
    return config


def survives(config, workdir):
    """Whether it is a run; False where it was refused in one sentence."""
    try:
        check_inputs(prepare(config, make_mesh("data=1", jax.devices()[:1])), workdir)
    except UserError as error:
        assert str(error) and len(str(error)) < 2000
        return False
    return True


@pytest.fixture(params=STAGES)
def base(request, records, checkpoint, windows, m3ddm):
    stage = request.param

    def make():
        if stage == "autoencoder":
            return small.autoencoder(records)
        if stage == "m3ddm":
            return small.m3ddm(windows, m3ddm)
        return small.config(stage, records, checkpoint)

    return make


def test_every_field_has_a_rule_that_its_default_keeps():
    for stage in STAGES:
        check_fields(default_config(stage))
    used = {field for stage in STAGES for field in fields(default_config(stage))}
    settings = {field for field in RULES if field.startswith(("schedule.", "settings."))}
    assert used | settings == set(RULES)


def fields(section, prefix=""):
    for name, value in section.items():
        if prefix + name in RULES or not hasattr(value, "items"):
            yield prefix + name
        else:
            yield from fields(value, f"{prefix}{name}.")


def test_a_rule_judges_anything_and_a_message_shows_anything():
    for rule in RULES.values():
        assert rule.says and all(rule.holds(value) in (True, False) for value in ODD)
    assert all(0 < len(shown(value)) < 100 for value in ODD)


def test_settings_that_no_method_takes_are_told_as_the_configurations(records, checkpoint):
    config = small.config("keyframes", records, checkpoint)
    config.settings.update({"steps": 5000})
    with pytest.raises(UserError, match="settings: steps is 5000"):
        prepare(config, make_mesh("data=1", jax.devices()[:1]))


@pytest.mark.parametrize("rounds", [15, pytest.param(250, marks=pytest.mark.slow)])
def test_any_value_in_any_field_is_a_run_or_a_sentence(base, tmp_path, rounds):
    assert survives(base(), tmp_path)
    rng, faults = random.Random(0), []
    cases = [(field, value, RULES[field].holds(value)) for field in fields(base()) for value in ODD]
    legal = [(field, value) for field, value, holds in cases if holds]
    illegal = [(field, value) for field, value, holds in cases if not holds]
    for field, value in rng.sample(legal, rounds) + rng.sample(illegal, rounds):
        try:
            config = replaced(base(), field, value)
        except OverflowError:  # of ml_collections, which makes a float of a whole number
            continue
        try:
            with bounded():
                assert not survives(config, tmp_path) or RULES[field].holds(at(config, field))
        except Exception as error:
            faults.append((field, shown(value), repr(error)[:300]))
    assert not faults, "\n".join(map(str, faults))
