"""The lake in Delta tables."""

from mendel.adapters.delta.lake import DeltaLake, DeltaSnapshot

__all__ = ["DeltaLake", "DeltaSnapshot"]
