"""Images of a project, end to end: what is built, listed, pushed, run and verified, over ports and their adapters."""
