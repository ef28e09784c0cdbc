"""MOTIA (Wang et al. 2024, arXiv 2403.13745) on whole clips."""
