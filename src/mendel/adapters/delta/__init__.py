"""The lake in Delta tables."""
