"""HTTP/1.1 as bytes: requests to send, and answers to read, over a bare connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

_READ_S = 20


@dataclass(frozen=True)
class Answer:
    """One answer; *headers* by their names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)


def request(path: str, body: bytes = b"", *, method: str = "POST", headers: Iterable[str] = ()) -> bytes:
    """Write a request; ``Content-Length`` is given where there is a body."""
    lines = [f"{method} {path} HTTP/1.1", "host: x", *headers]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Connection:
    """A connection to a REST port."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, port: int, *, limit: int = 1 << 16) -> Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=limit))

    async def send(self, *parts: bytes) -> None:
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    async def answer(self, *, to: str = "POST") -> Answer:
        """Read the next answer; the answer to HEAD has no body."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), _READ_S)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        length = 0 if to == "HEAD" else int(headers.get("content-length", 0))
        body = await asyncio.wait_for(self.reader.readexactly(length), _READ_S)
        return Answer(status=int(first.split()[1]), headers=headers, body=body)

    async def rest(self) -> bytes:
        """Read what is left until the server closes the connection."""
        try:
            return await asyncio.wait_for(self.reader.read(-1), _READ_S)
        except ConnectionError:
            return b""

    async def close(self) -> None:
        self.writer.close()
