"""M3DDM (Fan et al. 2023, "Hierarchical Masked 3D Diffusion Model for Video Outpainting", arXiv 2309.02119)."""
