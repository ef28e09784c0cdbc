"""What can be asked of GlobalPaint."""

from dataclasses import dataclass

from gp_jax.diffusion.tables import SAMPLERS, TAKE_ETA
from gp_jax.methods.globalpaint.plan import PLANS
from gp_jax.methods.options import Count, Seed, Text, Whole, detail_option, option, overlap_option

ADAPT_RATE = 1e-4


@dataclass(frozen=True)
class Options:
    """None stands for the checkpoint's own."""

    seed: Seed = option(Seed(0), "another seed, other sides", "N")
    steps: Count | None = option(None, "denoising steps; by default the checkpoint's", "N")
    sampler: str | None = option(None, "by default the checkpoint's", choices=SAMPLERS)
    guidance: float | None = option(
        None, "weight of what the whole clip shows; by default the checkpoint's", "S", spellings=("--token-guidance",)
    )
    prompt: Text | None = option(None, "what the new sides show, for checkpoints that read text", "TEXT")
    negative_prompt: Text | None = option(None, "what they are not to show; guidance leads away from it", "TEXT")
    text_guidance: float | None = option(None, "weight of the prompt; by default the checkpoint's", "S")
    plan: str = option("hierarchical", "key frames first, or one segment after another", choices=PLANS)
    propagate: bool = option(False, "what other frames show is carried over along the flow, and only the rest is made")
    detail: str = detail_option()
    mask: str | None = option(
        None, "a video or picture of the clip's size: white is made, the rest stays; by default none", "FILE"
    )
    path: str | None = option(
        None,
        "where the source lies in each frame: lines x,y in pixels from the upper left; by default it stands still",
        "FILE",
    )
    overlap: Whole = overlap_option()
    stabilize: bool = option(False, "the camera's path is made smooth, and what wanders into the frame is made")
    eta: float | None = option(
        None, f"share of fresh noise, from 0 to 1, of the sampler {', '.join(TAKE_ETA)}; by default 0.3", "E"
    )
    adapt: Whole | None = option(
        None, "first fit a LoRA to the clip, in so many steps; by default none, in motia as published", "STEPS"
    )
    adapt_rate: float | None = option(None, f"how fast it learns; by default {ADAPT_RATE:g}", "RATE")
    save_lora: str | None = option(
        None, "keep that LoRA, for --lora; a file of this name is replaced; by default nowhere", "FILE"
    )
