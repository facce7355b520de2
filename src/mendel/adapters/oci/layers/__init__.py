"""Image layers as reproducible tar archives: write, compress, cache and unpack."""
