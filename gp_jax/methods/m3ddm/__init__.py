"""M3DDM (Fan et al. 2023, arXiv 2309.02119) on whole clips."""
