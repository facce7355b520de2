"""Read models for hub, console and CLI."""
