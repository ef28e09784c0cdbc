"""The small checkpoint and records of the training tests."""

from tests.training.conftest import checkpoint, fast_compilation, records

__all__ = ["checkpoint", "fast_compilation", "records"]
