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
# The initial flow-control window of both sides (RFC 9113, 6.9.2).
_FIRST_WINDOW = 65_535
_LARGEST_FRAME = 16_384


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
        # What the server lets us send: on the connection, on a new stream, and on each stream.
        self._window = self._first_window = _FIRST_WINDOW
        self._windows: dict[int, int] = {}
        self._widened = asyncio.Event()
        # Within a block of headers nothing else may be sent: not even what the protocol wants answered.
        self.answers = True
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

    async def send_data(self, stream: int, data: bytes) -> None:
        """Send bytes of a message as far as the server's windows allow, and wait for the rest; `closed` reads them."""
        while data:
            room = min(
                self._window, self._windows.setdefault(stream, self._first_window), _LARGEST_FRAME, len(data)
            )
            if room <= 0:
                self._widened.clear()
                await self._widened.wait()
                continue
            self.send(frame(DATA, 0, stream, data[:room]))
            data = data[room:]
            self._window -= room
            self._windows[stream] -= room
            await self.drain()

    def reset(self, stream: int) -> None:
        """Cancel a call."""
        self.send(frame(RST_STREAM, 0, stream, CANCEL.to_bytes(4)))

    async def closed(self) -> None:
        """Read what the server sends, and drop it, until it closes the connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                length_kind, flags, stream = _FRAME_HEADER.unpack(
                    await self._reader.readexactly(_FRAME_HEADER.size)
                )
                self._take(
                    length_kind & 0xFF, flags, stream, await self._reader.readexactly(length_kind >> 8)
                )

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            more = int.from_bytes(payload)
            if stream:
                self._windows[stream] = self._windows.get(stream, self._first_window) + more
            else:
                self._window += more
        elif kind == SETTINGS and not flags & ACK:
            for place in range(0, len(payload), 6):
                if int.from_bytes(payload[place : place + 2]) == _INITIAL_WINDOW_SIZE:
                    self._widen(int.from_bytes(payload[place + 2 : place + 6]))
            self._answer(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._answer(frame(PING, ACK, 0, payload))
        self._widened.set()

    def _answer(self, data: bytes) -> None:
        if self.answers:
            self.send(data)

    def _widen(self, window: int) -> None:
        more, self._first_window = window - self._first_window, window
        self._windows = {stream: known + more for stream, known in self._windows.items()}

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
