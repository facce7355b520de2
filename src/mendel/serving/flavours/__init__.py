"""Model flavours: how each kind of artefact is recognised, written, described and loaded."""
