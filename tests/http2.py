"""A small HTTP/2 client that does what no gRPC library does: for attacks. Frames and nothing else (RFC 9113, RFC 7541)."""

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
CANCEL = 8
_INITIAL_WINDOW_SIZE = 4
# Length and kind in one number, flags, stream.
_FRAME_HEADER = struct.Struct(">IBI")
# Whole fields of HPACK's static table: `:method: POST` and `:scheme: http`.
_POST_HTTP = b"\x83\x86"
_READ_BYTES = 1 << 16


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame."""
    return _FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """A header field, spelled out. Name and value are shorter than 127 bytes."""
    return bytes((0, len(name))) + name.encode() + bytes((len(value),)) + value.encode()


def call_headers(path: str, **more: str) -> bytes:
    """The header block of a gRPC call; names of `more` have `_` for `-`."""
    fields = {":path": path, ":authority": "localhost", "content-type": "application/grpc", "te": "trailers"}
    fields |= {name.replace("_", "-"): value for name, value in more.items()}
    return _POST_HTTP + b"".join(field(name, value) for name, value in fields.items())


def grpc_message(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\0" + len(message).to_bytes(4) + message


class RawConnection:
    """A connection whose caller decides on every frame. Its preface announces a window of `window` bytes for each stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, window: int) -> None:
        self._reader = reader
        self._writer = writer
        self._next_stream = 1
        initial_window = _INITIAL_WINDOW_SIZE.to_bytes(2) + window.to_bytes(4)
        writer.write(PREFACE + frame(SETTINGS, 0, 0, initial_window))

    def send(self, data: bytes) -> None:
        """Send bytes; nothing is sent any more when the server has closed the connection."""
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the server takes more."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def call(self, path: str, message: bytes | None, **headers: str) -> int:
        """Begin a call and return its stream; without a message its request does not come."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.send(frame(HEADERS, END_HEADERS, stream, call_headers(path, **headers)))
        if message is not None:
            self.send(frame(DATA, END_STREAM, stream, grpc_message(message)))
        return stream

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self.send(frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4)))

    async def closed(self) -> None:
        """Read, and drop, what the server sends, until it closes the connection."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(_READ_BYTES):
                pass

    def abort(self) -> None:
        """Close the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def raw_connection(address: str, *, window: int = 65_535) -> AsyncIterator[RawConnection]:
    """A connection to `address`, closed at the end of the block."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    connection = RawConnection(reader, writer, window)
    try:
        yield connection
    finally:
        connection.abort()
