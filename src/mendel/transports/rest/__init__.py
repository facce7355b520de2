"""The REST server: the Open Inference Protocol v2 and plain JSON routes, an ASGI application under uvicorn."""
