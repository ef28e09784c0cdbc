"""Whatever stands in the JSON of a checkpoint, it is loaded or refused by one sentence: no traceback, no absurd memory,
no waiting.

One file of a folder is damaged at a time, by numbers from a fixed seed. Networks are only traced.
"""

import functools
import json
import math
import random
import shutil

import diffusers
import pytest

from gp_jax.checkpoint import components, parameters
from gp_jax.checkpoint.components import CONFIG_FILE, WEIGHTS_FILE
from gp_jax.checkpoint.folder import load_checkpoint
from gp_jax.checkpoint.tensors import check_match, write_tensors
from gp_jax.convert import describe
from gp_jax.convert.run import convert
from gp_jax.errors import UserError
from gp_jax.models.clip import TextConfig, TextTower
from tests import small_networks
from tests.convert import references
from tests.limits import bounded

NESTED = functools.reduce(lambda inner, _: [inner], range(400), 1)
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 7, 12, 10**6, 10**9, -(10**9), 10**30, 10**400, 0.5, -0.5, 1e-30, 1e300),
    *(math.nan, math.inf, -math.inf),
    *("", "9216", "gray", "\ud800\0", "x" * 5000, "../../x", "/dev/zero", "SASolverScheduler"),
    *([], [1], [0, 0], [1, 2], [8, 8], [True], [1] * 5000, [[1, 2], 3], ["a", "b"], {}, {"a": 1}, {"": None}, NESTED),
)


def places(value, path=()):
    """The paths of all values within a JSON value."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in entries:
        yield (*path, key)
        yield from places(inner, (*path, key))


def damaged(text: str, rng: random.Random) -> bytes:
    """The text of a JSON file with one or two faults."""
    whole = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 2))):
        if rng.random() < 0.06:
            whole = rng.choice(([whole], {"a": whole}, rng.choice(VALUES)))
        elif where := [path for path in places(whole) if len(path) < 4]:
            *path, last = rng.choice(where)
            parent = functools.reduce(lambda value, key: value[key], path, whole)
            if rng.random() < 0.2:
                del parent[last]
            elif isinstance(parent, dict) and rng.random() < 0.1:
                parent[rng.choice(("another", "_class_name", "architectures", "_x"))] = rng.choice(VALUES)
            else:
                parent[last] = rng.choice(VALUES)
    content = json.dumps(whole).encode()
    if rng.random() < 0.08:
        return content[: rng.randrange(len(content) + 1)]
    if rng.random() < 0.05:
        place = rng.randrange(len(content) + 1)
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    return content


def fuzz(folder, load, rounds, seed):
    """How many of the rounds were loaded, and how many refused."""
    rng, files = random.Random(seed), sorted(folder.rglob("*.json"))
    loaded = 0
    for number in range(rounds):
        path = files[number % len(files)]
        text = path.read_text()
        content = damaged(text, rng)
        path.write_bytes(content)
        try:
            with bounded():
                load(folder)
            loaded += 1
        except UserError as error:
            assert len(str(error)) < 3000, error
        except BaseException as error:
            raise AssertionError(f"round {number}: {path.name} is {content[:2000]!r}") from error
        finally:
            path.write_text(text)
    return loaded, rounds - loaded


def ours(folder):
    """A checkpoint of all components."""
    small_networks.write(folder)
    references.tokenizer(folder / "tokenizer").save_pretrained(folder / "tokenizer")
    config = TextConfig(56, small_networks.WIDTH, 16, 1, 2, 9, projection_dim=None, eos_token_id=55)
    tower = parameters.abstract(TextTower, config)
    tensors = small_networks.random_weights(parameters.flatten(tower), seed=0)
    write_tensors(folder / "text" / WEIGHTS_FILE, tensors)
    (folder / "text" / CONFIG_FILE).write_text(json.dumps(config.to_json()))
    return folder


def theirs(folder):
    """A diffusers folder, its UNet in shards."""
    references.save_pipeline(folder, "sd2")
    shutil.rmtree(folder / "unet")
    references.unet("sd2").save_pretrained(folder / "unet", max_shard_size="600KB")
    return folder


def others(folder):
    """A model of open_clip."""
    references.save_open_clip(references.whole_open_clip(), folder)
    return folder


def adapter(folder):
    """A UNet beside motion modules."""
    unet = {**references.SD1, "layers_per_block": 1}
    diffusers.UNet2DConditionModel(**unet).save_pretrained(folder / "unet")
    options = {"motion_layers_per_block": 1, "use_motion_mid_block": False}
    diffusers.MotionAdapter(unet["block_out_channels"], **options).save_pretrained(folder / "motion")
    return folder


FOLDERS = {
    "ours": (ours, load_checkpoint, 60),
    "ours, converted": (ours, describe, 20),
    "theirs": (theirs, describe, 45),
    "open_clip": (others, describe, 40),
    "motion": (adapter, lambda folder: describe(folder / "unet", motion=folder / "motion"), 20),
}


def run(name, tmp_path, monkeypatch, seed, times=1):
    """Networks are traced once for each config, and their tensors compared but not read."""

    def compare(module, tensors, *, source, **_):
        check_match(parameters.flatten(module), tensors, source)

    make, load, rounds = FOLDERS[name]
    folder = make(tmp_path / "folder")
    monkeypatch.setattr(components, "abstract", functools.cache(parameters.abstract))
    monkeypatch.setattr(components, "load_into", compare)
    load(folder)
    loaded, refused = fuzz(folder, load, rounds * times, seed)
    assert loaded and refused > (loaded + refused) / 3


@pytest.mark.parametrize("name", FOLDERS)
def test_damaged_json_is_loaded_or_refused(name, tmp_path, monkeypatch):
    run(name, tmp_path, monkeypatch, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
@pytest.mark.parametrize("name", FOLDERS)
def test_more_damaged_json_is_loaded_or_refused(name, seed, tmp_path, monkeypatch):
    run(name, tmp_path, monkeypatch, seed, times=10)


@pytest.mark.slow
def test_what_converts_is_loaded(tmp_path):
    """`convert` refuses what loading would refuse."""
    folder, rng = theirs(tmp_path / "folder"), random.Random(0)
    files = sorted(path for path in folder.rglob("*.json") if "tokenizer" not in path.parts)
    for number in range(60):
        path = files[number % len(files)]
        text = path.read_text()
        path.write_bytes(damaged(text, rng))
        try:
            convert(folder, tmp_path / "out", tokenizer=folder / "tokenizer")
        except UserError:
            continue
        finally:
            path.write_text(text)
        if all((tmp_path / "out" / part).exists() for part in ("unet", "vae", "scheduler")):
            load_checkpoint(tmp_path / "out")
        shutil.rmtree(tmp_path / "out")
