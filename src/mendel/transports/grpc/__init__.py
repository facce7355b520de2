"""Inference over gRPC."""
