"""Foreign checkpoints in, foreign checkpoints out: exact, strict, and without running anybody's code.

module, report = load("stable-diffusion-2-inpainting/unet")       # one network
modules, report = load("v1-5-pruned.safetensors")                 # {"unet": ..., "vae": ..., "text": ...}
print(convert("stable-diffusion-2-inpainting", "checkpoint"))     # a folder that the pipeline runs
"""

from gp_jax.convert.known import describe_known
from gp_jax.convert.run import convert, describe, load
from gp_jax.convert.translate import to_foreign

__all__ = ["convert", "describe", "describe_known", "load", "to_foreign"]
