"""Clips for training: records, and loaders that draw examples from them.

    config = DataConfig(records=("records",), segment_frames=16, feature_frames=16, view_size=224, view_patch=14)
    loader = make_loader(config, batch_size=64)
    batch = next(loader)                   # a dictionary of numpy arrays

A batch has, for B examples of T frames:

    frames [B, T] int32           source frame numbers, times the pace        known [B, T] bool    complete frames
    pixel_mask [B, H, W] float32  1 = unknown                                 latent_mask [B, h, w]
    pixels [B, T, H, W, 3] uint8  or latents and masked_latents [B, T, h, w, C] float16, scaled
    views [B, F, S, S, 3] uint8   or features [B, F, P, D] float16, of the observed rectangle alone
    positions [B, F, P, 2], times [B, F], valid [B, F]                        where the views' patches lie
    clip [B, G, H, W, 3] uint8, clip_hidden [B, G], rate [B] float32        where `DataConfig.global_frames` asks for it
    text [B, L, D] float16        where `DataConfig.text` asks for it
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gp_jax.data.config import DataConfig
    from gp_jax.data.loader import Loader, make_loader

__all__ = ["DataConfig", "Loader", "make_loader"]


def __getattr__(name: str) -> Any:
    """What reads videos and records is imported where it is used: a configuration needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'config' if name == 'DataConfig' else 'loader'}"), name)
