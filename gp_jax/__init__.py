"""GlobalPaint in JAX: hierarchical video outpainting by latent diffusion."""

__version__ = "0.1.0"
