"""What each field of a configuration may hold: one table, and what fields may not say together.

    check_fields(config)             each value by itself, against `RULES`
    check_together(config, mesh)     values that contradict each other

Both cost nothing: neither data nor a checkpoint is looked at. A new field of `default_config` needs a line here.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.data.config import KNOWN, SHORT, DataConfig
from gp_jax.diffusion.losses import WEIGHTS
from gp_jax.diffusion.schedules import BETA_SCHEDULES, PREDICTIONS, SPACINGS
from gp_jax.diffusion.tables import SAMPLERS
from gp_jax.errors import UserError
from gp_jax.fit.optimizer import SCHEDULES
from gp_jax.geometry import MASK_RULES, MAX_SIDE
from gp_jax.methods.globalpaint.objective import LOOKS
from gp_jax.models.attention import NAMES
from gp_jax.models.remat import REMAT
from gp_jax.training.config import OPEN, STAGES, default_config


class Rule(NamedTuple):
    """`holds` takes any value whatever and never raises; `says` goes on after "it must be"."""

    says: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int = 2**31 - 1) -> Rule:
    """A whole number of a range, both ends within."""
    return Rule(f"a whole number from {low} to {high}", lambda x: type(x) is int and low <= x <= high)


LARGEST = float(np.finfo(np.float32).max)  # what the programs compute with


def number(low: float, high: float = math.inf, *, above: bool = False, below: bool = False) -> Rule:
    """A finite number from `low` to `high`; `above` and `below`: but not these themselves."""
    said = f"a number {'above' if above else 'from'} {low}{'' if above else ' on'}"
    if high < math.inf:
        said = f"a number {'above' if above else 'from'} {low} {'and below' if below else 'to'} {high}"

    def holds(x: Any) -> bool:
        return (
            type(x) in (int, float)
            and low <= x <= min(high, LARGEST)
            and not ((above and x == low) or (below and x == high))
        )

    return Rule(said, holds)


def name(table: Collection[str]) -> Rule:
    """One of some names."""
    return Rule(f"one of {', '.join(table)}", lambda x: type(x) is str and x in table)


def several(rule: Rule, least: int = 0) -> Rule:
    """A tuple."""
    return Rule(
        f"a tuple{' that is not empty' * (least > 0)}, each entry {rule.says}",
        lambda x: type(x) in (tuple, list) and len(x) >= least and all(map(rule.holds, x)),
    )


def pair(rule: Rule) -> Rule:
    """A tuple of two."""
    return Rule(
        f"two values, each {rule.says}", lambda x: type(x) in (tuple, list) and len(x) == 2 and all(map(rule.holds, x))
    )


def _group(x: Any) -> bool:
    if type(x) not in (tuple, list) or len(x) != 2 or not TEXT.holds(x[0]) or not number(0).holds(x[1]):
        return False
    try:
        return bool(re.compile(x[0]))
    except (re.error, RecursionError, OverflowError):
        return False


def _sections(x: Any) -> bool:
    """By component, keys that a config.json of it may have; their values are for its reader to judge."""
    return isinstance(x, ConfigDict) and all(
        part in COMPONENTS and isinstance(fields, ConfigDict) and set(fields) <= _keys(part)
        for part, fields in x.items()
    )


def _keys(component: str) -> set[str]:
    config_cls = COMPONENTS[component][1]
    return {field.name for field in dataclasses.fields(config_cls)} | config_cls().to_json().keys()


FLAG = Rule("True or False", lambda x: type(x) is bool)
TEXT = Rule("text of one line", lambda x: type(x) is str and len(x) < 4096 and x.isprintable())
SHARE = number(0, 1)
SEED = whole(0, 2**64 - 1)
SECTIONS = Rule("sections of components, whose keys are those of their config.json", _sections)

# By dotted name. A section whose name is here is judged as a whole.
RULES: dict[str, Rule] = {
    "stage": name(STAGES),
    "steps": whole(1),
    "batch_size": whole(1),
    "microbatches": whole(1),
    "seed": SEED,
    "init_from": TEXT,
    "mesh": TEXT,  # its syntax: `make_mesh`
    "dtype": name(("float32", "bfloat16")),
    "attention": name(NAMES),
    "remat": name(REMAT),
    "networks": SECTIONS,
    "changes": SECTIONS,
    "schedule.num_train_timesteps": whole(2, 100_000),
    "schedule.beta_start": number(0, 1, above=True, below=True),
    "schedule.beta_end": number(0, 1, above=True, below=True),
    "schedule.beta_schedule": name(BETA_SCHEDULES),
    "schedule.prediction_type": name(PREDICTIONS),
    "schedule.rescale_betas_zero_snr": FLAG,
    "schedule.timestep_spacing": name(SPACINGS),
    "schedule.steps_offset": whole(0, 100_000),
    "schedule.set_alpha_to_one": FLAG,
    "schedule.shared_noise": SHARE,
    "settings.native_area": whole(64, MAX_SIDE**2),
    "settings.segment_frames": whole(3, 4096),
    "settings.feature_frames": whole(1, 4096),
    "settings.sampler": name(SAMPLERS),
    "settings.steps": whole(1, 100_000),
    "settings.guidance": number(0),
    "settings.local_guidance": number(0),
    "settings.global_frames": whole(1, 4096),
    "settings.text_guidance": number(0),
    "data.records": several(TEXT),
    "data.segment_frames": whole(1, 4096),
    "data.strides": several(whole(1, 2**15), least=1),
    "data.short": name(SHORT),
    "data.paces": several(whole(1, 2**15), least=1),
    "data.known": name(KNOWN),
    "data.ratio_range": pair(number(0, 1, above=True, below=True)),
    "data.directions": several(name(MASK_RULES)),
    "data.flip": FLAG,
    "data.feature_frames": whole(0, 4096),
    "data.view_size": whole(0, 4096),
    "data.view_patch": whole(0, 4096),
    "data.global_frames": whole(0, 4096),
    "data.downsampling": whole(1, 1024),
    "data.precomputed": FLAG,
    "data.text": FLAG,
    "data.models": Rule(
        "the sha256 of networks, by the names features, latents and text",
        lambda x: (
            isinstance(x, ConfigDict)
            and set(x) <= {"features", "latents", "text"}
            and all(type(digest) is str for digest in x.values())
        ),
    ),
    "data.size": Rule(
        f"None, or (height, width), each {whole(1, MAX_SIDE).says}",
        lambda x: x is None or pair(whole(1, MAX_SIDE)).holds(x),
    ),
    "data.workers": whole(0, 1024),
    "data.seed": SEED,
    "data.max_skipped": whole(0),
    "objective.edges": number(0),
    "objective.kl": number(0),
    "objective.jitter": number(0),
    "objective.weights": name(WEIGHTS),
    "objective.gamma": number(0, above=True),
    "objective.teacher_steps": whole(0, 100_000),
    "objective.sampled_steps": whole(0, 1000),
    "objective.perceptual": number(0),
    "objective.structural": number(0),
    "objective.flicker": number(0),
    "objective.video": number(0),
    "objective.adversarial": number(0),
    "objective.drop_text": SHARE,
    "objective.drop_tokens": SHARE,
    "objective.drop_both": SHARE,
    "objective.drop_global": SHARE,
    "objective.drop_all": SHARE,
    "optimizer.rate": number(0),
    "optimizer.schedule": name(SCHEDULES),
    "optimizer.warmup": whole(0),
    "optimizer.final": number(0),
    "optimizer.b1": number(0, 1, below=True),
    "optimizer.b2": number(0, 1, below=True),
    "optimizer.weight_decay": number(0),
    "optimizer.clip_norm": number(0, above=True),
    "optimizer.groups": Rule(
        "a tuple of (regular expression, multiplier from 0 on)",
        lambda x: type(x) in (tuple, list) and all(map(_group, x)),
    ),
    "adapter.rank": whole(0, 1024),
    "adapter.alpha": number(0, above=True),
    "adapter.modules": Rule("a regular expression", lambda x: _group((x, 1.0))),
    "ema": number(0, 1, below=True),
    "max_nonfinite": whole(0),
    "log_interval": whole(1),
    "checkpoints.interval": whole(1),
    "checkpoints.keep": whole(1),
    "validation.interval": whole(0),
    "validation.batches": whole(1, 10_000),
    "samples.interval": whole(0),
    "samples.clip": TEXT,
    "samples.aspect": number(0, 1000, above=True),
    "samples.frames": whole(1),
    "evaluation.protocol": TEXT,  # this and what follows is judged where evaluations begin
    "evaluation.dataset": TEXT,
    "evaluation.data": TEXT,
    "evaluation.clips": several(TEXT),
    "evaluation.frames": whole(0),
}

_OPEN = tuple(f"{section}." for section in OPEN)


def check_fields(config: ConfigDict) -> None:
    """Raises UserError for the first field that has no place, is missing, or holds what it may not."""
    given = dict(_leaves(config))
    _hold("stage", given.get("stage"))
    expected = _expected(config.stage)
    for field, value in given.items():
        if field not in RULES or not (field in expected or field.startswith(_OPEN)):
            raise UserError(f"config.{field[:100]} is no field of the stage {config.stage}")
        _hold(field, value)
    if missing := sorted(field for field in expected - given.keys() if not field.startswith(_OPEN)):
        raise UserError(f"config.{missing[0]} is missing: start from default_config, and remove nothing of it")


def check_together(config: ConfigDict, mesh: Mesh) -> None:
    """Raises UserError where values contradict each other."""
    data, objective, stage = config.data, config.objective, config.stage
    parts = config.microbatches * math.prod(mesh.shape[axis] for axis in ("data", "fsdp"))
    drops = {drop: chance for drop, chance in objective.items() if drop.startswith("drop_")}
    looks = [term for term in LOOKS if objective.get(term)]
    images_only, windows = (STAGES[stage].objective == kind for kind in ("reconstruction", "window diffusion"))
    wrong = {
        f"adapter.rank must be 0 in the stage {stage}: there are LoRAs of UNets alone": (
            config.adapter.rank and (images_only or windows)
        ),
        f"batch_size is {config.batch_size}: it must divide into microbatches x data x fsdp = {parts}": (
            config.batch_size % parts
        ),
        f"samples.interval must be 0 in the stage {stage}: it makes no clips": images_only and config.samples.interval,
        f"data.precomputed must be False in the stage {stage}: it trains what latents are made by": (
            images_only and data.precomputed
        ),
        f"data.precomputed must be False in the stage {stage}: it draws its latents anew each time": (
            windows and data.precomputed
        ),
        f"data.text must be False in the stage {stage}: it reads none": (images_only or windows) and data.text,
        f"data.global_frames must be {'more than ' * windows}0 in the stage {stage}": windows
        != bool(data.global_frames),
        f"objective.{', '.join(drops)} add up to {sum(drops.values()):g}, more than 1": sum(drops.values()) > 1 + 1e-9,
        f"objective.{'/'.join(looks)} compares pixels: set data.precomputed to False": looks and data.precomputed,
        "objective.sampled_steps and objective.teacher_steps each choose the timesteps: set one of them to 0": (
            objective.get("sampled_steps") and objective.get("teacher_steps")
        ),
        "objective.flicker compares neighbouring frames, and data.segment_frames is 1": (
            "flicker" in looks and data.segment_frames < 2
        ),
    }
    for sentence, is_wrong in wrong.items():
        if is_wrong:
            raise UserError(f"config.{sentence}")
    DataConfig(**data.to_dict() | {"records": data.records or ("none yet",)})  # raises UserError by itself


def shown(value: Any) -> str:
    """A value as a message shows it: short, whatever it is."""
    try:
        text = repr(value.to_dict() if isinstance(value, ConfigDict) else value)
    except Exception:  # a number of more digits than Python prints, an object whose repr fails
        text = f"a {type(value).__name__} that cannot be shown"
    return text if len(text) < 100 else f"{text[:60]}...{text[-20:]}"


@functools.cache
def _expected(stage: str) -> frozenset[str]:
    return frozenset(field for field, _ in _leaves(default_config(stage)))


def _hold(field: str, value: Any) -> None:
    if not RULES[field].holds(value):
        raise UserError(f"config.{field} is {shown(value)}: it must be {RULES[field].says}")


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of all fields."""
    for key in section:
        field, value = f"{prefix}{key}", section[key]
        if isinstance(value, ConfigDict) and field not in RULES:
            yield from _leaves(value, f"{field}.")
        else:
            yield field, value
