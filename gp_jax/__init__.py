"""GlobalPaint in JAX: hierarchical video outpainting by latent diffusion.

    import gp_jax

    reader = gp_jax.VideoReader("clip.mp4")
    canvas = gp_jax.Canvas.from_aspect(reader.info.height, reader.info.width, 16 / 9)
    pipe = gp_jax.OutpaintPipeline.from_pretrained("tiny")       # or gp_jax.load_method("flow"), with the same calls
    with gp_jax.VideoWriter("wide.mp4", reader.info, audio_from=reader) as writer:
        for frame in pipe.stream(reader, canvas, seed=0):        # uint8 [H, W, 3]
            writer.write(frame)

What stands here is imported when it is used: `import gp_jax` alone costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gp_jax.geometry import Canvas
    from gp_jax.methods.globalpaint.pipeline import OutpaintPipeline
    from gp_jax.methods.registry import load as load_method
    from gp_jax.video import VideoReader, VideoWriter

__version__ = "0.1.0"
__all__ = ["Canvas", "OutpaintPipeline", "VideoReader", "VideoWriter", "load_method"]

# Name -> the module that has it, and its name there.
_PLACES = {
    "Canvas": ("gp_jax.geometry", "Canvas"),
    "OutpaintPipeline": ("gp_jax.methods.globalpaint.pipeline", "OutpaintPipeline"),
    "VideoReader": ("gp_jax.video", "VideoReader"),
    "VideoWriter": ("gp_jax.video", "VideoWriter"),
    "load_method": ("gp_jax.methods.registry", "load"),
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'gp_jax' has no attribute {name!r}")
    module, there = _PLACES[name]
    return getattr(import_module(module), there)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])
