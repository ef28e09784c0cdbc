"""Optical flow, and what follows from it."""
