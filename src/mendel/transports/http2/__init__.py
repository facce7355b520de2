"""The server side of HTTP/2 (RFC 9113) on asyncio; knows nothing of the protocols that run on HTTP/2."""
