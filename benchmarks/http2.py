"""One HTTP/2 connection that sends prebuilt unary gRPC requests and sees their ends: frames, and nothing else.

A gRPC client costs several times what the measured servers do, and would be what is measured. Here a request is a few
bytes put together, and a response is followed by its frames' headers alone (RFC 9113, RFC 7541).
"""

import socket
import ssl
import struct
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_ACK = _END_STREAM = 0x1
_END_HEADERS = 0x4
# Length and kind in one number, flags, stream.
_FRAME_HEADER = struct.Struct(">IBI")
# The initial flow-control window of both sides (RFC 9113, 6.9.2).
_FIRST_WINDOW = 65_535
_LARGEST_WINDOW = 2**31 - 1
_SETTINGS_INITIAL_WINDOW_SIZE = 4
_LARGEST_FRAME = 16_384
_RECEIVE_BYTES = 1 << 18
# Index of a header field in HPACK's static table, by name; 0 sends the name itself.
_NAME_INDEX = {":authority": 1, ":path": 4, "authorization": 23, "content-type": 31, "user-agent": 58}
# Whole fields of the static table: `:method: POST`, and `:scheme: http` or `https`.
_POST_HTTP, _POST_HTTPS = b"\x83\x86", b"\x83\x87"
_FIRST_DYNAMIC_INDEX = 62

# The largest integer of a prefix of seven bits says that more bytes follow, of seven bits each.
_SEVEN_BITS = 0x7F


@dataclass(frozen=True, slots=True)
class Access:
    """What calls are made with: over TLS or in the clear, and metadata."""

    tls: ssl.SSLContext | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


IN_THE_CLEAR = Access()


class ConnectionEndedError(Exception):
    """The server ended the connection while calls were in flight."""


class Connection:
    """A connection with at most `outstanding` calls of one `path` in flight.

    `latencies` holds the seconds of every call that was answered with a message; `failed` counts the others.
    """

    def __init__(self, address: str, path: str, *, outstanding: int, access: Access = IN_THE_CLEAR) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if access.tls is not None:
            self._socket = access.tls.wrap_socket(self._socket, server_hostname=host)
        self._outstanding = outstanding
        self._window = _FIRST_WINDOW
        self._next_stream = 1
        self._started: dict[int, float] = {}
        self._answered: set[int] = set()
        self._received = bytearray()
        self._held: deque[bytes] = deque()
        self._first_block, self._block = _header_blocks(address, path, access)
        self.latencies: list[float] = []
        self.failed = 0
        largest = _SETTINGS_INITIAL_WINDOW_SIZE.to_bytes(2) + _LARGEST_WINDOW.to_bytes(4)
        self._socket.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, largest)
            + _frame(_WINDOW_UPDATE, 0, 0, (_LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4))
        )

    def fileno(self) -> int:
        """The socket's descriptor: a selector takes the connection itself."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    @property
    def is_waiting(self) -> bool:
        """Whether a call waits for its end, or for the server to take it."""
        return bool(self._started or self._held)

    def send(self, messages: Iterator[bytes]) -> None:
        """Send calls with the next of `messages` until as many as allowed are in flight."""
        parts: list[bytes] = []
        now = time.perf_counter()
        while len(self._started) < self._outstanding:
            message = self._held.popleft() if self._held else next(messages, None)
            if message is None:
                break
            if len(message) > self._window:
                # The server reads slowly: its next window update lets this one go.
                self._held.append(message)
                break
            self._window -= len(message)
            stream = self._next_stream
            self._next_stream += 2
            block = self._first_block if stream == 1 else self._block
            parts += (
                _FRAME_HEADER.pack(len(block) << 8 | _HEADERS, _END_HEADERS, stream),
                block,
                _FRAME_HEADER.pack(len(message) << 8 | _DATA, _END_STREAM, stream),
                message,
            )
            self._started[stream] = now
        if parts:
            self._socket.sendall(b"".join(parts))

    def receive(self) -> None:
        """Read what is there, note the calls that ended, and answer what the protocol wants answered."""
        chunk = self._socket.recv(_RECEIVE_BYTES)
        # Of what TLS has decrypted already, a selector knows nothing.
        while isinstance(self._socket, ssl.SSLSocket) and self._socket.pending():
            chunk += self._socket.recv(_RECEIVE_BYTES)
        if not chunk:
            raise ConnectionEndedError("the server closed the connection")
        now = time.perf_counter()
        buffer = self._received
        buffer += chunk
        start, end = 0, len(buffer)
        while end - start >= _FRAME_HEADER.size:
            size_and_kind, flags, stream = _FRAME_HEADER.unpack_from(buffer, start)
            following = start + _FRAME_HEADER.size + (size_and_kind >> 8)
            if following > end:
                break
            kind = size_and_kind & 0xFF
            if kind == _DATA:
                self._answered.add(stream)
            elif kind not in (_HEADERS, _RST_STREAM):
                self._control(kind, flags, stream, bytes(buffer[start + _FRAME_HEADER.size : following]))
            if kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                self._ended(stream, now)
            start = following
        del buffer[:start]

    def _ended(self, stream: int, now: float) -> None:
        started = self._started.pop(stream, None)
        if started is None:
            return
        # A unary call that fails ends with its trailers and no message.
        if stream in self._answered:
            self._answered.discard(stream)
            self.latencies.append(now - started)
        else:
            self.failed += 1

    def _control(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _SETTINGS and not flags & _ACK:
            self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._socket.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(payload)
        elif kind == _GOAWAY:
            raise ConnectionEndedError(f"the server went away, HTTP/2 error {int.from_bytes(payload[4:8])}")


def length_prefixed(message: bytes) -> bytes:
    """Return a serialized message as gRPC sends it, uncompressed. Raises ValueError when it does not fit one frame."""
    prefixed = b"\0" + len(message).to_bytes(4) + message
    if len(prefixed) > _LARGEST_FRAME:
        raise ValueError(f"a message of {len(message)} bytes does not fit into one frame")
    return prefixed


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME_HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def _header_blocks(address: str, path: str, access: Access) -> tuple[bytes, bytes]:
    """Return the header block of a connection's first request, and that of the later ones.

    The first puts every field into the server's dynamic table, the newest at index 62; the later ones name the indexes.
    That is how gRPC's own clients send them.
    """
    fields = {
        ":authority": address,
        ":path": path,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": "flywheel-benchmarks",
        # Callers set a deadline; so do these.
        "grpc-timeout": "20S",
        **access.metadata,
    }
    pseudo_fields = _POST_HTTP if access.tls is None else _POST_HTTPS
    first = pseudo_fields + b"".join(_literal(name, value) for name, value in fields.items())
    later = pseudo_fields + bytes(
        0x80 | (_FIRST_DYNAMIC_INDEX + place) for place in reversed(range(len(fields)))
    )
    return first, later


def _literal(name: str, value: str) -> bytes:
    """A field that is put into the dynamic table."""
    index = _NAME_INDEX.get(name, 0)
    spelled = b"" if index else _text(name)
    return bytes((0x40 | index,)) + spelled + _text(value)


def _text(text: str) -> bytes:
    """A string without Huffman coding, its length before it: an integer with a prefix of seven bits (RFC 7541, 5.1)."""
    encoded = text.encode()
    rest = len(encoded) - _SEVEN_BITS
    length = bytearray((min(len(encoded), _SEVEN_BITS),))
    while rest > _SEVEN_BITS:
        length.append(0x80 | rest & _SEVEN_BITS)
        rest >>= 7
    if len(encoded) >= _SEVEN_BITS:
        length.append(rest)
    return bytes(length) + encoded
