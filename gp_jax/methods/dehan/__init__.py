"""Dehan et al. (2022, "Complete and temporally consistent video outpainting") on whole clips."""
