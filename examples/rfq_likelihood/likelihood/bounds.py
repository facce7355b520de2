"""Nobody is certain to trade, and nobody certain not to."""

import numpy as np

LEAST = 0.001


def within_bounds(probabilities):
    """Rows of probabilities, each kept between LEAST and 1 - LEAST."""
    return np.clip(probabilities, LEAST, 1 - LEAST)
