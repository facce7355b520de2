"""The REST door: v2 and the plain routes, plain ASGI under uvicorn."""
