"""What a training run can be told: one tree of values, and how a file and a command line change it.

A configuration is a Python file with `get_config()`, or `get_config(arg)`, that starts from `default_config(stage)` and
changes a few fields:

    gp-jax train --config configs/tiny.py:keyframes --workdir W --config.optimizer.rate=3e-4

    config = load_config("configs/tiny.py:keyframes", ["--config.optimizer.rate=3e-4"])

The tree knows its keys and their types: a key that is not there, or a value of another type, is refused; new keys of
`OPEN` sections are left to rules.py, which tells what values may be. A tuple or a number is written as in Python, and a
(height, width) also as WIDTHxHEIGHT.
"""

import ast
import dataclasses
import importlib.util
import inspect
import os
import re
import traceback
from collections.abc import Sequence
from importlib.machinery import SourceFileLoader
from typing import Any

from ml_collections import ConfigDict

from gp_jax.checkpoint.components import DENOISERS
from gp_jax.data.config import DataConfig
from gp_jax.errors import UserError

PREFIX = "--config."
OPEN = ("schedule", "settings")  # sections whose fields may be left out: the checkpoint says them, or their classes


@dataclasses.dataclass(frozen=True)
class Stage:
    """What distinguishes the stages.

    Attributes:
      objective: a name in `objectives.OBJECTIVES`.
      networks: components of a checkpoint that take part.
      denoiser: the component that is the diffusion network.
      starts: the components of a checkpoint that it starts from, the first of them that is there.
      discards: components of the checkpoint it started from that the outcome makes useless.
      frozen: parameters that are not trained unless the config says otherwise.
    """

    objective: str
    networks: tuple[str, ...]
    denoiser: str = "unet"
    starts: tuple[str, ...] = ("unet",)
    discards: tuple[str, ...] = ()
    frozen: str = "vae|clip"

    @property
    def method(self) -> str:
        """The method of whose checkpoints the outcome is one."""
        return DENOISERS[self.denoiser]


STAGES = {
    "autoencoder": Stage("reconstruction", ("vae",), discards=("unet", "interpolation_unet"), frozen=""),
    "image": Stage("diffusion", ("unet", "vae"), discards=("interpolation_unet",)),
    "keyframes": Stage("diffusion", ("unet", "vae", "clip", "global_tokens"), discards=("interpolation_unet",)),
    "interpolation": Stage(
        "diffusion",
        ("interpolation_unet", "vae", "clip", "global_tokens"),
        denoiser="interpolation_unet",
        frozen="vae|clip|global_tokens",
    ),
    # Running statistics of batch norms stay those of the checkpoint: a batch of a few clips has none worth keeping.
    "m3ddm": Stage(
        "window diffusion",
        ("m3ddm", "vae"),
        denoiser="m3ddm",
        starts=("m3ddm", "unet"),
        discards=("unet", "interpolation_unet", "clip", "global_tokens", "text", "tokenizer"),
        frozen=r"vae|m3ddm\.global_encoder\..*\.(mean|variance|steps)",
    ),
}


def default_config(stage: str) -> ConfigDict:
    """All fields, with values that suit one device; `stage` is a name in `STAGES`."""
    config = ConfigDict()
    config.stage = stage
    config.steps = 1000
    config.batch_size = 8  # segments per step, over all processes
    config.microbatches = 1  # parts of a batch that go through the networks one after the other
    config.seed = 0
    config.init_from = ""  # a checkpoint folder, or a name of this package's; empty: from scratch

    config.mesh = ""  # "data=2,fsdp=4": see gp_jax.parallel.make_mesh; empty: all devices on `data`
    config.dtype = "float32"  # in which the networks compute; parameters that are trained are float32
    config.attention = "auto"  # one of gp_jax.models.attention.NAMES
    config.remat = "none"  # a name in gp_jax.models.remat.REMAT: what is computed again instead of kept

    # By component, its config.json: of those that the checkpoint does not have, and what changes in whatever there is.
    config.networks = {name: {} for name in STAGES[stage].networks}
    config.changes = {name: {} for name in STAGES[stage].networks}
    config.schedule = {}  # fields of NoiseSchedule; what is not given comes from the checkpoint
    config.settings = _SETTINGS[STAGES[stage].method]  # the `config.json` of the result; see checkpoint/settings.py

    config.data = dataclasses.asdict(DataConfig(records=("",), segment_frames=16))
    config.data["records"] = ()  # folders of records, or of video files; the latter need `size`, such as 256x256

    config.objective = _OBJECTIVES[STAGES[stage].objective]
    config.optimizer = {
        "rate": 1e-4,
        "schedule": "cosine",  # a name in optimizer.SCHEDULES
        "warmup": 100,  # steps
        "final": 0.1,  # share of the rate at the end
        "b1": 0.9,
        "b2": 0.999,
        "weight_decay": 1e-2,  # of kernels, not of biases and scales
        "clip_norm": 1.0,
        # (pattern, multiplier of the rate) from the start of a parameter's dotted path, such as
        # `unet.down.0.transformer.0.space_time`; the first that matches counts, 0 freezes, no match means 1.
        "groups": ((STAGES[stage].frozen, 0.0),) if STAGES[stage].frozen else (),
    }
    # Rank above 0: a LoRA of the diffusion network is trained, and nothing else (adapter.py). Its scale is alpha over
    # rank; `modules` is a pattern of the layers that get one, over their whole path in the network.
    config.adapter = {"rank": 0, "alpha": 16.0, "modules": r".*attention\.(query|key|value|output)"}
    config.ema = 0.999  # the decay, which warms up
    config.max_nonfinite = 20  # steps with a NaN or an infinity, which are skipped; more of them end the run

    config.log_interval = 50  # steps
    config.checkpoints = {"interval": 1000, "keep": 2}
    # Every `interval` steps (0: never) the loss on so many batches of the split `validation`.
    config.validation = {"interval": 0, "batches": 6}
    # Every `interval` steps (0: never) the averaged weights are written as a checkpoint folder, and outpaint a clip.
    config.samples = {"interval": 0, "clip": "sample:carphone", "aspect": 16 / 9, "frames": 33}
    # With each sample, `gp-jax evaluate` by this protocol (empty: none); clips and frames: empty and 0 for all.
    config.evaluation = {"protocol": "", "dataset": "davis", "data": "", "clips": (), "frames": 0}
    return config


_SETTINGS = {
    "globalpaint": {"native_area": 256 * 256, "segment_frames": 16, "feature_frames": 16},
    "m3ddm": {"native_area": 256 * 256, "global_frames": 16},
}
_OBJECTIVES = {
    "window diffusion": {"drop_global": 0.0, "drop_all": 0.0},
    "reconstruction": {"edges": 0.5, "kl": 1e-3, "jitter": 0.0},
    "diffusion": {
        "weights": "uniform",
        "gamma": 5.0,
        "sampled_steps": 0,  # above 0: only the timesteps that sampling in so many steps visits are trained
        # Above 0: learn to sample in few steps of the checkpoint's own network, which takes so many (distillation.py).
        "teacher_steps": 0,
        "perceptual": 0.0,  # weight of LPIPS; needs raw pixels, and weights that `gp-jax fetch` fetches
        "structural": 0.0,  # weight of 1 - SSIM: plain surfaces where the truth is plain; needs raw pixels
        "flicker": 0.0,  # weight of changes from frame to frame that are not true; needs raw pixels
        "video": 0.0,  # weight of I3D's view of the frames together; as for LPIPS
        "adversarial": 0.0,  # weight of a discriminator's word, a network trained along; needs raw pixels
        "drop_text": 0.05,
        "drop_tokens": 0.05,
        "drop_both": 0.05,
    },
}


def load_config(file: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The configuration of a file, its values replaced by `--config.KEY=VALUE`.

    Args:
      file: `FILE.py` or `FILE.py:ARG`, the latter for `get_config(ARG)`.
      overrides: such as `["--config.data.workers=4"]`.

    Raises:
      UserError: there is no such file, it fails, has no `get_config`, refuses ARG or returns something else; or an
        override has no place in it.
    """
    path, _, argument = file.partition(":")
    config = _run(path, argument)
    config.lock()
    for override in overrides:
        _replace(config, override)
    return config


def _run(path: str, argument: str) -> ConfigDict:
    """What the file's `get_config` returns; whatever goes wrong within the file is told with its line."""
    if not os.path.isfile(path):
        raise UserError(f"there is no configuration {path}: give a file such as configs/tiny.py:keyframes")
    loader = SourceFileLoader("config_file", path)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    try:
        loader.exec_module(module)
        if not callable(getattr(module, "get_config", None)):
            raise UserError(f"{path} is no configuration: it has no function get_config")
        try:
            inspect.signature(module.get_config).bind(*[argument] * bool(argument))
        except TypeError:
            raise UserError(f"{path} takes {'no' if argument else 'an'} argument after a colon") from None
        config = module.get_config(*[argument] * bool(argument))
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        if isinstance(error, KeyError) and argument and error.args == (argument,):
            raise UserError(f"{path} has no variant {error}") from None
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) and error.filename == path else lines and lines[-1]
        where = f"{path}, line {line}" if line else path
        reason = error.msg if isinstance(error, SyntaxError) else str(error).strip().partition("\n")[0][:300]
        raise UserError(f"{where}: {type(error).__name__}: {reason}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"{path}: get_config returns a {type(config).__name__}, and must return what default_config made"
        )
    return config


def _replace(config: ConfigDict, override: str) -> None:
    key, equals, text = override.removeprefix(PREFIX).partition("=")
    if not override.startswith(PREFIX) or not equals:
        raise UserError(f"{override} is not understood: overrides have the form {PREFIX}optimizer.rate=1e-4")
    *path, last = key.split(".")
    place = config
    for name in path:
        place = place.get(name) if isinstance(place, ConfigDict) else None
    if not isinstance(place, ConfigDict) or (last not in place and path not in [[section] for section in OPEN]):
        raise UserError(f"{PREFIX}{key} is no field of this configuration")
    old, new = place.get(last), _value(text)
    if isinstance(old, tuple) and isinstance(new, str):
        new = (new,)
    elif isinstance(old, str):
        new = text
    if isinstance(old, ConfigDict) or (isinstance(old, bool) != isinstance(new, bool) and old is not None):
        raise UserError(f"{override}: {key} is of type {type(old).__name__}")
    try:
        with config.unlocked():  # for what an open section has not yet
            place[last] = new
    except (TypeError, ValueError):
        raise UserError(f"{override}: {key} is of type {type(old).__name__}") from None
    except OverflowError:
        raise UserError(f"{override:.80}...: {key} is a number that no computer has room for") from None


def _value(text: str) -> Any:
    if match := re.fullmatch(r"(\d{1,9})x(\d{1,9})", text):
        return int(match[2]), int(match[1])
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {"true": True, "false": False}.get(text, text)
