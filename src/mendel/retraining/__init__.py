"""One training run as resumable steps, ending in a candidate."""
