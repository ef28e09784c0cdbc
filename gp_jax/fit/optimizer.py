"""The optimizer: AdamW with a warm-up, clipping, and a multiplier of the rate for each parameter.

It is one formula for each parameter. Optax's chain of the same steps goes over all of them a dozen times, and a network
of a few hundred small tensors then spends more of its compilation on them than on itself.
"""

from collections.abc import Mapping
from typing import Any, cast

import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

# After the warm-up, by name: (rate, steps, share of the rate at the end) -> optax schedule.
SCHEDULES = {
    "constant": lambda rate, steps, final: optax.constant_schedule(rate),
    "linear": lambda rate, steps, final: optax.linear_schedule(rate, final * rate, steps),
    "cosine": lambda rate, steps, final: optax.cosine_decay_schedule(rate, steps, final),
}

_EPSILON = 1e-8


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

    Clipping by the norm of the whole gradient (arXiv 1211.5063), Adam with its corrections of the moments (arXiv
    1412.6980, algorithm 1), weight decay beside it (arXiv 1711.05101, algorithm 2), all times rate and multiplier.

    Args:
      config: the section `optimizer`.
      steps: of the whole run.
      multipliers: parameter -> multiplier of its rate, of its weight decay too.

    Returns:
      An optimizer with the state of the chain of Optax's transformations, whose `update` takes `norm`, float32: that of
      the whole gradient.
    """
    rate = learning_rate(config, steps)
    chain = optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.adamw(rate, mask=_decaying),
        optax.stateless(lambda updates, params: updates),
    )
    b1, b2 = config.b1, config.b2

    def update(gradient, state, params, *, norm):
        clipping, (adam, decay, schedule), multiplying = state
        clip = jnp.where(norm < config.clip_norm, 1.0, config.clip_norm / norm)
        count = optax.safe_increment(adam.count)
        first, second = 1 - b1**count, 1 - b2**count  # shares of the moments that have come in since they were 0
        factor = -jnp.asarray(rate(schedule.count))
        updates, mu, nu = {}, {}, {}
        for name, x in gradient.items():
            x = clip * x
            mu[name] = b1 * adam.mu[name] + (1 - b1) * x
            nu[name] = b2 * adam.nu[name] + (1 - b2) * x * x
            step = mu[name] / first / (jnp.sqrt(nu[name] / second) + _EPSILON)
            if decays(name):
                step += config.weight_decay * params[name]
            updates[name] = factor * multipliers[name] * step
        adam = adam._replace(count=count, mu=mu, nu=nu)
        schedule = schedule._replace(count=optax.safe_increment(schedule.count))
        return updates, (clipping, (adam, decay, schedule), multiplying)

    return optax.GradientTransformationExtraArgs(chain.init, cast(Any, update))


def _decaying(params: Any) -> dict[str, bool]:
    return {name: decays(name) for name in params}
