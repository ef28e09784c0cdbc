"""What can be asked of M3DDM."""

from dataclasses import dataclass

from gp_jax.methods.options import Count, Seed, Whole, detail_option, option, overlap_option


@dataclass(frozen=True)
class Options:
    """None stands for the checkpoint's own."""

    seed: Seed = option(Seed(0), "another seed, other sides", "N")
    steps: Count | None = option(None, "denoising steps; by default the checkpoint's", "N")
    guidance: float | None = option(None, "weight of what the whole clip shows; by default the checkpoint's", "S")
    local_guidance: float | None = option(None, "weight of what each window shows; by default the checkpoint's", "S")
    detail: str = detail_option()
    overlap: Whole = overlap_option()
    faithful: bool = option(False, "as published: in a square of 256 pixels, pasted with a hard edge")
