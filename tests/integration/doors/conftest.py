"""The fixtures of the doors."""

from support.doors import connect, open_project, open_world
from support.served_models import at, make_kernel, shelf, spool

__all__ = ["at", "connect", "make_kernel", "open_project", "open_world", "shelf", "spool"]
