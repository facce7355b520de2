"""The append-only prediction log and the join with labels, over ports."""
