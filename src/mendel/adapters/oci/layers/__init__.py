"""Image layers as canonical tar archives: written, compressed, cached, unpacked."""
