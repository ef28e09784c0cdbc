"""From a configuration to the parts of a run, none of them in memory yet; and what contradicts itself in it.

    run = prepare(config)
    run.step, run.state                   the update, and shape and place of every array that it changes
    loader = open_data(run)

Without a checkpoint to start from this needs neither weights nor data: full-size runs can be looked at anywhere.
"""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE, load_module
from gp_jax.checkpoint.folder import find_checkpoint
from gp_jax.checkpoint.settings import SETTINGS, Settings, read_settings
from gp_jax.checkpoint.text import embed_text, load_tokenizer
from gp_jax.data.config import DataConfig
from gp_jax.diffusion.schedules import NoiseSchedule
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.fit.optimizer import make_optimizer
from gp_jax.fit.state import State, abstract_state
from gp_jax.fit.step import Objective, Step, make_step
from gp_jax.models.clip import TextConfig, TextTower
from gp_jax.models.m3ddm.config import M3DDMConfig
from gp_jax.models.unet_config import UNetConfig
from gp_jax.parallel import make_mesh
from gp_jax.parallel.processes import process_rows
from gp_jax.training.adapter import LORA
from gp_jax.training.config import STAGES
from gp_jax.training.distillation import Distillation
from gp_jax.training.networks import CRITIC, Networks, describe
from gp_jax.training.objectives import OBJECTIVES
from gp_jax.training.rules import check_fields, check_together

if TYPE_CHECKING:
    from gp_jax.data.loader import Loader


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a run.

    Attributes:
      config: what was asked for.
      mesh: the devices.
      origin: the checkpoint folder that training starts from, or None.
      networks: which there are, and what of them is trained.
      schedule, settings: of the checkpoint folder that the run ends with.
      objective: what is minimised.
      optimizer: of the trained parameters.
      step: the update.
      state: `ShapeDtypeStruct`s with shardings.
    """

    config: ConfigDict
    mesh: Mesh
    origin: Path | None
    networks: Networks
    schedule: NoiseSchedule
    settings: Any
    objective: Any
    optimizer: optax.GradientTransformation
    step: Step
    state: State

    @property
    def multiple(self) -> int:
        """Of which the sides of frames are multiples: pixels of a latent, of one in M3DDM's lowest level."""
        denoiser = self.networks.configs.get(STAGES[self.config.stage].denoiser)
        return self.config.data.downsampling * (denoiser.downsampling if isinstance(denoiser, M3DDMConfig) else 1)

    def describe(self) -> dict[str, Any]:
        """What a reader of the saved state has to know, as JSON: `networks` are those that the state holds."""
        adapter, whole = self.networks.adapter, [name for name in self.networks.live if name not in (LORA, CRITIC)]
        return {
            "stage": self.config.stage,
            "init_from": str(self.origin.absolute()) if self.origin else "",
            "discards": list(self.networks.discards),
            "networks": {component: self.networks.configs[component].to_json() for component in whole},
            "adapter": dataclasses.asdict(adapter) if adapter else None,
            "scheduler": self.schedule.to_config(),
            "settings": self.settings.to_json(),
        }


def prepare(config: ConfigDict, mesh: Mesh | None = None) -> Run:
    """The parts of the run that a configuration describes.

    Args:
      config: see config.py.
      mesh: by default that of `config.mesh`, over all devices.

    Raises:
      UserError: in one sentence, a value that cannot be meant, or a checkpoint that is not there.
    """
    check_fields(config)
    mesh = make_mesh(config.mesh or None) if mesh is None else mesh
    check_together(config, mesh)
    if config.objective.get("perceptual"):
        from gp_jax.metrics.perceptual import load_lpips  # beside metrics that read flow

        load_lpips("alex")  # refuses where its weights were not fetched
    if config.objective.get("video"):
        from gp_jax.metrics.i3d import load_i3d  # the same

        load_i3d()
    origin = find_checkpoint(config.init_from) if config.init_from else None
    networks = describe(config, origin)
    schedule = NoiseSchedule.from_config(
        {**_read(origin, "scheduler/scheduler_config.json"), **config.schedule.to_dict()}
    )
    objective = _objective(config, networks, schedule, origin)
    optimizer = make_optimizer(config.optimizer, config.steps, networks.multipliers)
    return Run(
        config=config,
        mesh=mesh,
        origin=origin,
        networks=networks,
        schedule=schedule,
        settings=_settings(config, origin),
        objective=objective,
        optimizer=optimizer,
        step=make_update(networks, objective, optimizer, config),
        state=abstract_state(networks.shapes_of(networks.live), networks.multipliers, optimizer, mesh),
    )


def make_update(
    networks: Networks, objective: Any, optimizer: optax.GradientTransformation, config: ConfigDict
) -> Step:
    """The update of these networks by one of `objectives.OBJECTIVES`."""

    def losses(params, batch, draws):
        return objective.losses(networks.bind(params), batch, draws)

    schedule = getattr(objective, "schedule", None)
    return make_step(
        Objective(objective.draw, losses, schedule and schedule.num_train_timesteps),
        networks.multipliers,
        optimizer,
        seed=config.seed,
        ema=config.ema,
        microbatches=config.microbatches,
        log_interval=config.log_interval,
    )


def open_data(run: Run, *, split: str = "train", whole: bool = False) -> "Loader":
    """The loader of the rows that lie on this process, or of whole batches."""
    from gp_jax.data.loader import make_loader  # imports what reads videos and records

    size = run.config.batch_size
    rows = None if whole else process_rows(NamedSharding(run.mesh, PartitionSpec(("data", "fsdp"))), size)
    data = DataConfig(**run.config.data.to_dict())
    if (data.precomputed or data.text) and not data.models:
        data = dataclasses.replace(data, models=_model_hashes(run.origin))
    return make_loader(data, split=split, batch_size=size, rows=rows)


def _objective(config: ConfigDict, networks: Networks, schedule: NoiseSchedule, origin: Path | None) -> Any:
    stage = STAGES[config.stage]
    options = config.objective.to_dict()
    if stage.objective == "reconstruction":
        return OBJECTIVES[stage.objective](**options, vae=networks.configs["vae"])
    denoiser = networks.configs[stage.denoiser]
    options |= {"schedule": schedule, "denoiser": stage.denoiser, "latent_channels": denoiser.out_channels}
    if isinstance(denoiser, UNetConfig):
        if config.data.precomputed and denoiser.masked_fill != "grey":
            raise UserError(
                f"precomputed masked latents show grey where nothing was observed, and this UNet wants "
                f"masked_fill={denoiser.masked_fill!r}: set data.precomputed to False"
            )
        options["null_text"] = _null_text(origin, denoiser.cross_attention_dim)
    if options.pop("teacher_steps", 0):
        before = read_settings(_read(origin, CONFIG_FILE) or config.settings.to_dict())
        if not isinstance(before, Settings):
            raise UserError(
                f"config.objective.teacher_steps learns of a checkpoint of globalpaint, and {origin} is one of "
                f"{before.method}: set it to 0, or start from another"
            )
        guidance = before.guidance, before.text_guidance
        return Distillation(**options, teacher_steps=config.objective.teacher_steps, guidance=guidance)
    return OBJECTIVES[stage.objective](**options)


def _settings(config: ConfigDict, origin: Path | None) -> Any:
    """Of the outcome: those of the checkpoint that training starts from, unless that is of another method."""
    cls, before = SETTINGS[STAGES[config.stage].method], _read(origin, CONFIG_FILE)
    if not isinstance(read_settings(before) if before else None, cls):
        before = {}
    return cls.from_json({**before, **config.settings.to_dict()}, "config.settings")  # `before` was read by itself


def _null_text(origin: Path | None, width: int) -> np.ndarray:
    """The embedding of the empty prompt; zeros for checkpoints that read no text."""
    if origin is None or not (origin / "text").is_dir():
        return np.zeros((1, 1, width), np.float32)
    tower = load_module(TextTower, TextConfig, origin / "text")
    return embed_text(tower, load_tokenizer(origin / "tokenizer", tower.config), "")


def _model_hashes(origin: Path | None) -> dict[str, str]:
    """What precomputed files must have been made with: the networks of the checkpoint."""
    from gp_jax.data.precomputed import model_hash  # likewise

    made_by = {"latents": "vae", "features": "clip", "text": "text"}
    there = {part: origin / component for part, component in made_by.items()} if origin else {}
    return {
        part: model_hash(load_module(*COMPONENTS[folder.name], folder))
        for part, folder in there.items()
        if folder.is_dir()
    }


def _read(folder: Path | None, file: str) -> dict[str, Any]:
    return read_json(folder / file) if folder and (folder / file).is_file() else {}
