"""What can be asked of GlobalPaint."""

from dataclasses import dataclass

from gp_jax.diffusion.tables import SAMPLERS, TAKE_ETA
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.methods.options import Count, Seed, option


@dataclass(frozen=True)
class Options:
    """None stands for the checkpoint's own."""

    seed: Seed = option(Seed(0), "another seed, other sides", "N")
    steps: Count | None = option(None, "denoising steps; by default the checkpoint's", "N")
    sampler: str | None = option(None, "by default the checkpoint's", choices=SAMPLERS)
    guidance: float | None = option(
        None, "weight of what the whole clip shows; by default the checkpoint's", "S", spellings=("--token-guidance",)
    )
    prompt: str | None = option(None, "what the new sides show, for checkpoints that read text", "TEXT")
    negative_prompt: str | None = option(None, "what they are not to show; guidance leads away from it", "TEXT")
    text_guidance: float | None = option(None, "weight of the prompt; by default the checkpoint's", "S")
    plan: str = option("hierarchical", "key frames first, or one segment after another", choices=PLANS)
    eta: float | None = option(
        None, f"share of fresh noise, from 0 to 1, of the sampler {', '.join(TAKE_ETA)}; by default 0.3", "E"
    )
