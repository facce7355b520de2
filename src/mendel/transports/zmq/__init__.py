"""Inference over ZeroMQ."""
