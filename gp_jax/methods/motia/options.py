"""What can be asked of MOTIA.

Two sets of numbers are published: the paper's, which are the default, and those of the released configuration, which
`released` chooses.

    PAPER       a LoRA fitted in 1000 steps; 25 steps, of which the prompt guides the first 15; noise regret
    RELEASED    a LoRA fitted in 800 steps; 50 steps, all guided; no noise regret
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from gp_jax.methods.options import Count, Seed, Text, Whole, detail_option, option, overlap_option


class Published(NamedTuple):
    """Numbers that go together: steps of the fit and of the sampler, the part that is guided, repeats of regret."""

    adapt: int
    steps: int
    guided: float
    regret: int


PAPER, RELEASED = Published(1000, 25, 0.6, 4), Published(800, 50, 1.0, 0)
GUIDANCE = 7.5


@dataclass(frozen=True)
class Options:
    """None stands for the published number."""

    seed: Seed = option(Seed(0), "another seed, other sides", "N")
    steps: Count | None = option(None, "denoising steps; by default the checkpoint's", "N")
    prompt: Text | None = option(None, "what the new sides show, for checkpoints that read text", "TEXT")
    negative_prompt: Text | None = option(None, "what they are not to show; guidance leads away from it", "TEXT")
    text_guidance: float | None = option(None, "weight of the prompt; by default the checkpoint's", "S")
    regret: Whole | None = option(
        None, "how often three steps are taken again, in the first part of the way; by default as published", "N"
    )
    adapt: Whole | None = option(
        None, "first fit a LoRA to the clip, in so many steps; by default as published, with --lora none", "STEPS"
    )
    save_lora: str | None = option(None, "keep that LoRA, for --lora; by default nowhere", "FILE")
    insertion: float = option(0.5, "how far from the source a LoRA counts, in largest expansions", "K")
    detail: str = detail_option()
    overlap: Whole = overlap_option()
    released: bool = option(False, "the released configuration's numbers in the place of the paper's")

    def filled(self) -> "Options":
        """With the published numbers where nothing was asked for."""
        own = {"steps": Count(self.published.steps), "text_guidance": GUIDANCE, "regret": Whole(self.published.regret)}
        return replace(self, **{name: value for name, value in own.items() if getattr(self, name) is None})

    @property
    def published(self) -> Published:
        """Whose numbers they are."""
        return RELEASED if self.released else PAPER
