"""The REST door: v2 and the plain routes, plain ASGI under uvicorn."""

from mendel.transports.rest.application import ROUTES, RestApplication, Stats
from mendel.transports.rest.door import RestDoor
from mendel.transports.rest.rest_policy import RestPolicy

__all__ = ["ROUTES", "RestApplication", "RestDoor", "RestPolicy", "Stats"]
