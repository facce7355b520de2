"""Git itself, in few processes."""
