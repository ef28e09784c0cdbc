"""Diffusion as pure functions of arrays: noise schedules, samplers, guidance and training losses."""
