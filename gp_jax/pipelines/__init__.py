"""Whole clips: which frames are made when, and the code that makes them."""
