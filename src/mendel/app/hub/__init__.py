"""Processes of the control plane: the hub, its background jobs, health, anchors and summaries."""
