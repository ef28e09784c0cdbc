"""From the training state to a checkpoint folder, as `gp-jax outpaint --checkpoint` and `--init-from` take it.

What was trained comes from the moving average; what was not is copied from the checkpoint that training started from,
but for what the training has made useless (an old UNet beside a new autoencoder). A LoRA that was trained is merged
into its network, and lies beside it as files (adapter.py).
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gp_jax.checkpoint.components import COMPONENTS
from gp_jax.checkpoint.folder import write_parts
from gp_jax.checkpoint.tensors import LazyTensor
from gp_jax.files import replacing_folder
from gp_jax.fit.state import State
from gp_jax.parallel.gather import gathered
from gp_jax.parallel.processes import on_first
from gp_jax.training.adapter import LORA
from gp_jax.training.networks import CRITIC, Networks, component_of, within

FOLDER = "checkpoint"


def export_checkpoint(
    workdir: Path,
    networks: Networks,
    state: State,
    *,
    origin: Path | None,
    settings: Mapping[str, Any],
    scheduler: Mapping[str, Any],
) -> Path:
    """Writes `workdir/checkpoint`, in the place of an older one; called by all processes, done by the first.

    Args:
      networks: their configs are written as they are.
      state: the training state.
      origin: the checkpoint folder that training started from.
      settings, scheduler: the folder's `config.json` and `scheduler/scheduler_config.json`.

    Raises:
      UserError: the folder can't be written; on all processes.
    """
    averaged = {**state["params"], **state["average"]}
    averaged = {name: x for name, x in averaged.items() if component_of(name) != CRITIC}
    target = workdir / FOLDER
    arrays = gathered(averaged)

    def take(name: str) -> np.ndarray:
        found, array = next(arrays)
        assert found == name and array is not None, f"{name} is written where {found} was gathered"
        return array

    def part(component: str) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
        tensors = {
            name: LazyTensor(x.shape, x.dtype, lambda name=f"{component}.{name}": take(name))
            for name, x in sorted(within(component, averaged).items())  # sorted, in the order of `gathered`
        }
        return networks.configs[component].to_json(), tensors

    def adapted(temporary: Path) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
        assert networks.adapter is not None and origin is not None
        updates = networks.adapter.updates(within(LORA, {name: take(name) for name in sorted(averaged)}))
        networks.adapter.write(temporary / LORA, networks.configs[networks.adapter.component], updates)
        return networks.adapter.parts(origin, updates)

    def finish_gathering() -> None:
        for _ in arrays:
            pass

    def write() -> None:
        try:
            with replacing_folder(target) as temporary:
                live = sorted({component_of(name) for name in averaged})  # in the order of `gathered`
                parts = adapted(temporary) if networks.adapter else {name: part(name) for name in live}
                write_parts(temporary, parts, settings, scheduler)
                for name in (*COMPONENTS, "tokenizer"):
                    if origin and (origin / name).is_dir() and name not in (*parts, *networks.discards):
                        shutil.copytree(origin / name, temporary / name)
        finally:
            finish_gathering()  # after a full disk too: the others take part in all of it

    on_first(write, meanwhile=finish_gathering)
    return target
