"""Whole clips: which frames are made when, and the code that makes them."""

from gp_jax.methods.globalpaint.pipeline import ArrayReader, OutpaintPipeline

__all__ = ["ArrayReader", "OutpaintPipeline"]
