"""The optimizer: AdamW with a warm-up, clipping, and a multiplier of the rate for each parameter."""

from collections.abc import Mapping

import optax
from ml_collections import ConfigDict

# After the warm-up, by name: (rate, steps, share of the rate at the end) -> optax schedule.
SCHEDULES = {
    "constant": lambda rate, steps, final: optax.constant_schedule(rate),
    "linear": lambda rate, steps, final: optax.linear_schedule(rate, final * rate, steps),
    "cosine": lambda rate, steps, final: optax.cosine_decay_schedule(rate, steps, final),
}


def learning_rate(config: ConfigDict, steps: int) -> optax.Schedule:
    """The rate at each update of a run of `steps`; `config` is the section `optimizer`."""
    warmup = min(config.warmup, steps // 2)
    after = SCHEDULES[config.schedule](config.rate, max(1, steps - warmup), config.final)
    return optax.join_schedules([optax.linear_schedule(0.0, config.rate, warmup), after], [warmup])


def decays(name: str) -> bool:
    """Whether weight decay takes a parameter: kernels alone, the matrices of linear layers and convolutions.

    Not biases and scales, and not tables of which a row stands for a place or a token: relative positions, learned
    queries, embeddings. Pulling these to zero says nothing about the size of a function.
    """
    return name.rpartition(".")[2] == "kernel"


def make_optimizer(
    config: ConfigDict, steps: int, multipliers: Mapping[str, float]
) -> optax.GradientTransformationExtraArgs:
    """For a flat dictionary of parameters.

    Args:
      config: the section `optimizer`.
      steps: of the whole run.
      multipliers: parameter -> multiplier of its rate, of its weight decay too.
    """

    def multiply(updates, params=None):
        return {name: update * multipliers[name] for name, update in updates.items()}

    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(
            learning_rate(config, steps),
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=lambda params: {name: decays(name) for name in params},
        ),
        optax.stateless(multiply),
    )
