"""The small checkpoint and records of the training tests."""

from tests.training.conftest import checkpoint, fast_compilation, m3ddm, records, windows

__all__ = ["checkpoint", "fast_compilation", "m3ddm", "records", "windows"]
