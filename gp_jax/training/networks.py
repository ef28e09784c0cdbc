"""The networks of a stage: what each is built from, where its parameters come from, and which of them are trained.

Parameters of all networks lie in one flat dictionary, the component's folder in front of the name:

    "unet.conv_in.kernel"        "global_tokens.queries"        "vae.decoder.conv_out.bias"

so that a pattern speaks of any group of them: `unet.*(temporal|space_time)` is what makes a UNet a video network.

    networks = describe(config, origin)                   nothing is in memory yet
    params = initial(networks, networks.live, mesh)       each parameter where it is to lie
    frozen = initial(networks, networks.frozen, mesh)
    modules = networks.bind(frozen | params)              callable networks, also under a trace
"""

import dataclasses
import functools
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gp_jax.checkpoint import parameters
from gp_jax.checkpoint.components import COMPONENTS, CONFIG_FILE, DENOISERS, WEIGHTS_FILE
from gp_jax.checkpoint.fresh import initialise
from gp_jax.checkpoint.tensors import LazyTensor, cast, check_match, is_floating, read_tensors
from gp_jax.errors import UserError
from gp_jax.files import read_json
from gp_jax.json_config import read_config, short
from gp_jax.models.discriminator import Discriminator, DiscriminatorConfig
from gp_jax.models.unet import UNetConfig
from gp_jax.parallel import parameter_shardings
from gp_jax.parallel.gather import placed
from gp_jax.seeds import check_seed
from gp_jax.training.adapter import LORA, Adapter, adapter_of, is_update
from gp_jax.training.config import STAGES
from gp_jax.training.image_start import from_image

Tensors = Mapping[str, Any]  # by name, the component in front
TEACHER = "teacher"  # the diffusion network as it is in the checkpoint, beside the one that learns of it
CRITIC = "discriminator"  # new in each run, and in no checkpoint
_CLASSES = {**COMPONENTS, CRITIC: (Discriminator, DiscriminatorConfig)}


@dataclasses.dataclass(frozen=True)
class Networks:
    """The networks of a stage.

    Attributes:
      configs: component -> the config it is built from.
      modules: component -> the network, abstract.
      multipliers: each parameter that is trained -> the multiplier of its learning rate.
      sources: component -> the folder that its parameters come from, None where it is new.
      dtype: of the parameters of networks that are not trained at all; the autoencoder's stay float32.
      seed: of new parameters.
      adapter: what is trained beside one of the networks, and then nothing else is; its parameters count as a component
        of their own, `adapter.LORA`.
      pupil: the component that learns of its `TEACHER`, which counts as a component; empty where there is none.
      discards: components of the checkpoint that training starts from, which the outcome makes useless.
    """

    configs: dict[str, Any]
    modules: dict[str, nnx.Module]
    multipliers: dict[str, float]
    sources: dict[str, Path | None]
    dtype: DTypeLike
    seed: int
    adapter: Adapter | None = None
    pupil: str = ""
    discards: tuple[str, ...] = ()

    @functools.cached_property
    def live(self) -> tuple[str, ...]:
        """Components with a parameter that is trained; they are held in float32, and saved."""
        trained = {component_of(name) for name in self.multipliers}
        return tuple(component for component in (*self.configs, LORA) if component in trained)

    @property
    def frozen(self) -> tuple[str, ...]:
        """The others: constants of the training, read again from their checkpoint by every run."""
        return tuple(component for component in self.configs if component not in self.live)

    @functools.cached_property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """All parameters, with the types in which they are held."""
        return {
            name: jax.ShapeDtypeStruct(leaf.shape, self.held(component_of(name)) if is_floating(leaf) else leaf.dtype)
            for name, leaf in _flatten(self.modules).items()
        }

    def shapes_of(self, components: Collection[str]) -> dict[str, jax.ShapeDtypeStruct]:
        """The parameters of some components."""
        return {name: x for name, x in self.shapes.items() if component_of(name) in components}

    def bind(self, tensors: Tensors) -> dict[str, Any]:
        """The networks with these parameters."""
        beside = {self.adapter.component: within(LORA, tensors)} if self.adapter else {}
        return {
            name: parameters.bind(module, within(name, tensors) | beside.get(name, {}))
            for name, module in self.modules.items()
        }

    def held(self, component: str) -> DTypeLike:
        """The type of a component's parameters; those that are counters stay whole numbers."""
        return jnp.float32 if component in self.live or component == "vae" else self.dtype


def describe(config: ConfigDict, origin: Path | None) -> Networks:
    """The networks that a configuration asks for; `origin` is the checkpoint folder that training starts from.

    Raises:
      UserError: a network has neither a checkpoint nor a config, or is not trained and to be changed, networks do not
        fit each other or the data, or a pattern of `optimizer.groups` decides nothing.
    """
    stage = STAGES[config.stage]
    pupil = stage.denoiser if config.objective.get("teacher_steps") else ""
    sources, configs = {}, {}
    for component in stage.networks:
        config_cls = COMPONENTS[component][1]
        # A LoRA is trained beside a network that stays as it is, a pupil begins as its teacher.
        is_same = config.adapter.rank or pupil or component != stage.denoiser
        names = (component,) if is_same else stage.starts
        sources[component] = (
            next((origin / name for name in names if (origin / name).is_dir()), None) if origin else None
        )
        fields = config.networks.get(component, ConfigDict()).to_dict()
        source = sources[component]
        if source and COMPONENTS[source.name][1] is config_cls:
            fields = read_json(source / CONFIG_FILE)
        if fields:
            configs[component] = config_cls.from_json({**fields, **config.changes.get(component, {})})
    critic = (CRITIC,) if config.objective.get("adversarial") else ()
    configs |= dict.fromkeys(critic, DiscriminatorConfig())
    sources |= dict.fromkeys(critic)
    needed = [*_needed(config, configs), *critic]
    if lost := [component for component in needed if component not in configs]:
        raise UserError(f"{lost[0]} is neither in a checkpoint (init_from) nor in the configuration's `networks`")
    _check_fit(config, configs, needed)

    adapter = adapter_of(stage.denoiser, configs, config, sources)
    modules = {component: _abstract(component, network, config, adapter) for component, network in configs.items()}
    if pupil:
        configs[TEACHER], modules[TEACHER] = configs[pupil], _abstract(pupil, configs[pupil], config, None)
        sources[TEACHER] = sources[pupil]
        needed.append(TEACHER)
    trainable = [name for name, leaf in _flatten(modules).items() if is_floating(leaf)]
    alone = (LORA, *critic) if adapter else (pupil, *critic) if pupil else needed
    multipliers = _multipliers(trainable, config.optimizer.groups, alone)
    made = Networks(
        configs={component: configs[component] for component in needed},
        modules={component: modules[component] for component in needed},
        multipliers=multipliers,
        sources={component: sources[component] for component in needed},
        dtype=jnp.dtype(config.dtype),
        seed=check_seed(config.seed),
        adapter=adapter,
        pupil=pupil,
        discards=() if adapter or pupil else stage.discards,
    )
    _check_unchanged(made)
    return made


def check_sources(networks: Networks, components: Collection[str]) -> None:
    """Raises UserError where one of these networks is not trained, and in no checkpoint."""
    for component in components:
        if component in networks.frozen and networks.sources[component] is None:
            raise UserError(f"{component} is not trained, so it has to come from a checkpoint: give one by init_from")


def initial(networks: Networks, components: Collection[str], mesh: Mesh) -> dict[str, jax.Array]:
    """The parameters that some of the networks start with.

    Each is read or made in the pieces that the mesh asks for. Modules that turn an image network into a video network
    may be missing in the checkpoint; any other difference is an error.

    Raises:
      UserError: names every parameter that is missing, unexpected or of another shape; or a network that is not trained
        is in no checkpoint.
    """
    check_sources(networks, components)
    params = {}
    for component in components:
        if component == LORA:
            params |= _fresh_updates(networks, mesh)
            continue
        kind = networks.pupil if component == TEACHER else component
        cls, _ = _CLASSES[kind]
        config, dtype = networks.configs[component], networks.held(component)
        expected = within(component, networks.shapes)
        shardings = parameter_shardings(expected, mesh)
        stored, new = {}, set(expected)
        if source := networks.sources[component]:
            stored = _stored(kind, config, expected, source)
            new -= stored.keys()
        if new and networks.adapter and networks.adapter.component == component:
            raise UserError(f"a LoRA is trained beside a network that is whole, and {source} lacks {min(new)}")
        if new and component == TEACHER:
            raise UserError(f"a teacher is a network that is whole, and {source} lacks {min(new)}")
        found = ((name, cast(np.asarray(stored[name]), dtype)) for name in expected if name not in new)
        made = {name: placed(array, shardings[name]) for name, array in found}
        if new:
            made |= initialise(cls, config, sorted(new), networks.seed, dtype, shardings)
        params |= {f"{component}.{name}": made[name] for name in expected}
    return params


def _fresh_updates(networks: Networks, mesh: Mesh) -> dict[str, jax.Array]:
    assert networks.adapter is not None
    expected = within(LORA, networks.shapes)
    config, shardings = networks.configs[networks.adapter.component], parameter_shardings(expected, mesh)
    made = networks.adapter.fresh(config, expected, networks.seed, shardings)
    return {f"{LORA}.{name}": x for name, x in made.items()}


def component_of(name: str) -> str:
    """The component that a parameter belongs to."""
    return name.partition(".")[0]


def within(component: str, tensors: Tensors) -> dict[str, Any]:
    """The tensors of a component, by the names that they have within it."""
    return {name.partition(".")[2]: x for name, x in tensors.items() if component_of(name) == component}


def _flatten(modules: Mapping[str, nnx.Module]) -> dict[str, Any]:
    return {
        f"{LORA if is_update(name) else component}.{name}": leaf
        for component, x in modules.items()
        for name, leaf in parameters.flatten(x).items()
    }


def _needed(config: ConfigDict, configs: Mapping[str, Any]) -> list[str]:
    """Without what precomputed data make superfluous, and without towers for a UNet that has no global tokens."""
    stage = STAGES[config.stage]
    left_out = set()
    if config.data.precomputed:
        left_out |= {"vae", "clip"}
    unet = configs.get(stage.denoiser)
    if isinstance(unet, UNetConfig) and not unet.global_tokens:
        left_out |= {"clip", "global_tokens"}
    return [component for component in stage.networks if component not in left_out]


def _check_fit(config: ConfigDict, configs: Mapping[str, Any], needed: Collection[str]) -> None:
    """Raises UserError where what meets is not of one size: pixels and latents, latents and UNet, tower and tokens."""
    data, denoiser = config.data, STAGES[config.stage].denoiser
    unet, vae, clip = (configs.get(component) for component in (denoiser, "vae", "clip"))
    extractor = configs.get("global_tokens") if "global_tokens" in needed else None
    if extractor and not data.feature_frames:
        raise UserError("config.data.feature_frames is 0: global tokens are made of the frames that the tower sees")
    meet = []  # (what, its size, what it meets, the size of that)
    if vae:
        meet.append(("config.data.downsampling", data.downsampling, "vae's pixels per latent", vae.downsampling))
    if unet:
        meet.append((f"{denoiser}.in_channels", unet.in_channels, "2 x out_channels + 1", 2 * unet.out_channels + 1))
    if unet and vae:
        meet.append((f"{denoiser}.out_channels", unet.out_channels, "vae.latent_channels", vae.latent_channels))
    if unet and extractor:
        theirs = f"{denoiser}.cross_attention_dim", unet.cross_attention_dim
        meet.append(("global_tokens.output_width", extractor.output_width, *theirs))
    if extractor and clip:
        meet.append(("global_tokens.feature_width", extractor.feature_width, "clip.hidden_size", clip.hidden_size))
    if extractor and clip and not data.precomputed:
        grid = clip.image_size // clip.patch_size
        ours = "config.data.view_size / view_patch", data.view_size // max(data.view_patch, 1)
        meet.append((*ours, "clip.image_size / patch_size", grid))
    for what, size, other, wanted in meet:
        if size != wanted:
            raise UserError(f"{what} is {size} and {other} is {wanted}: they must be equal")


def _check_unchanged(networks: Networks) -> None:
    """Raises UserError where a network is changed that the outcome has as it is in the checkpoint."""
    for component in networks.frozen:
        source = networks.sources[component]
        if source and source.name == component:
            before = COMPONENTS[component][1].from_json(read_json(source / CONFIG_FILE))
            if before != networks.configs[component]:
                raise UserError(
                    f"config.changes.{component} makes another network than {source} is, and it is not trained: leave "
                    "that out, or train it"
                )


def _abstract(component: str, network: Any, config: ConfigDict, adapter: Adapter | None) -> nnx.Module:
    cls, _ = _CLASSES[component]
    options = {"dtype": jnp.float32 if component == "vae" else jnp.dtype(config.dtype)}
    if component in DENOISERS:
        options |= {"attention": config.attention, "remat": config.remat}
    if adapter and adapter.component == component:
        return parameters.abstract(adapter.build, network, **options)
    return _traced(cls, network, **options)


# Full-size networks take seconds to trace, and nothing changes an abstract one.
_traced = functools.lru_cache(maxsize=32)(parameters.abstract)


def _multipliers(
    names: Collection[str], groups: tuple[tuple[str, float], ...], needed: Collection[str]
) -> dict[str, float]:
    """The parameters of the needed networks whose multiplier is not 0."""
    chosen, used = {}, set()
    for name in names:
        pattern, multiplier = next(((p, x) for p, x in groups if re.match(p, name)), (None, 1.0))
        used.add(pattern)
        if multiplier and component_of(name) in needed:
            chosen[name] = float(multiplier)
    if unused := [pattern for pattern, _ in groups if pattern not in used]:
        raise UserError(f"optimizer.groups: the pattern {short(unused[0])} decides over no parameter")
    if not chosen:
        raise UserError("optimizer.groups freezes every parameter: there is nothing to train")
    return chosen


def _video_modules(cls: type[nnx.Module], config: Any, names: Collection[str]) -> set[str]:
    """Parameters that an image network does not have: its outcome does not depend on their fresh values."""
    if not isinstance(config, UNetConfig):
        return set()
    image = dataclasses.replace(config, temporal=False, window=None, global_tokens=False, motion_modules=False)
    return set(names) - parameters.shapes(cls, image).keys()


def _stored(component: str, config: Any, expected: Tensors, source: Path) -> dict[str, LazyTensor]:
    """What a checkpoint's folder has of a network; an ablation leaves out modules that it may have.

    Raises:
      UserError: what is not there is more than what makes a video network of an image network.
    """
    cls, config_cls = COMPONENTS[source.name]
    path = source / WEIGHTS_FILE
    stored, theirs = read_tensors(path), read_config(config_cls.from_json, source / CONFIG_FILE)
    extra = _video_modules(cls, theirs, stored) - set(expected)
    stored = {name: tensor for name, tensor in stored.items() if name not in extra}
    if cls is not COMPONENTS[component][0]:
        return from_image(stored, theirs, expected, config, str(path))
    new = _video_modules(cls, config, expected) - stored.keys()
    check_match({name: x for name, x in expected.items() if name not in new}, stored, str(path))
    return stored
