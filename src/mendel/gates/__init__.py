"""Evidence in, gate report out."""
