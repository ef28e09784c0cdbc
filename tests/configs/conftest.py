"""The small checkpoint and records of the training tests."""

from tests.training.conftest import checkpoint, m3ddm, records, windows

__all__ = ["checkpoint", "m3ddm", "records", "windows"]
