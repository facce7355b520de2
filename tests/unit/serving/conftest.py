"""The fixtures of serving."""

from support.served_models import at, make_kernel, shelf, spool

__all__ = ["at", "make_kernel", "shelf", "spool"]
