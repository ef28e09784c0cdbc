"""The small checkpoint and records of the training tests."""

from tests.training.conftest import checkpoint, compiled_fast, m3ddm, records, windows

__all__ = ["checkpoint", "compiled_fast", "m3ddm", "records", "windows"]
