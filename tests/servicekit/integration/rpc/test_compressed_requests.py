"""A request is refused by its size in memory, not on the wire: a compressed one is as small as a thousandth of itself."""

import asyncio
import re
import zlib
from pathlib import Path

import grpc
import grpc.aio
import pytest

from awoooi.incident.v1 import incident_service_pb2 as pb
from hostile.http2 import DATA, END_STREAM, frame, raw_connection
from servicekit.rpc.server_limits import ServerLimits
from tests.eventually import eventually
from tests.servicekit.scripted_server import SERVICE, VALID, scripted_server
from tests.services import TIMEOUT_SECONDS

MIB = 1 << 20
UNPACKED_BYTES = 128 * MIB
MOST_BYTES = UNPACKED_BYTES // 4
GZIP = 16 + zlib.MAX_WBITS


def gzipped_zeros(size: int) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, GZIP)
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(size // MIB)) + compressor.flush()


def peak_bytes() -> int:
    """The most memory of this process since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


async def test_a_small_request_that_would_unpack_to_a_large_one_takes_no_memory() -> None:
    packed = gzipped_zeros(UNPACKED_BYTES)
    assert len(packed) < ServerLimits().message_bytes
    async with scripted_server() as running, raw_connection(running.server.address) as connection:
        reading = asyncio.ensure_future(connection.closed())
        forget_peak()
        before = peak_bytes()

        def taken() -> int:
            return peak_bytes() - before

        stream = connection.call(f"/{SERVICE}/Get", None, grpc_encoding="gzip")
        await connection.send_data(stream, b"\x01" + len(packed).to_bytes(4) + packed)
        connection.send(frame(DATA, END_STREAM, stream))
        await eventually(
            lambda: asyncio.sleep(0, running.timed() == 1 or taken() > MOST_BYTES), lambda ended: ended
        )

        assert taken() < MOST_BYTES
        assert running.handled("OK") == 0
        reading.cancel()


async def test_its_caller_learns_why() -> None:
    async with scripted_server() as running:
        large = pb.GetRequest(incident_id="x" * (2 * ServerLimits().message_bytes))

        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.stub.Get(large, compression=grpc.Compression.Gzip, timeout=TIMEOUT_SECONDS)

        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        small = pb.GetRequest(incident_id=VALID.incident_id)
        await running.stub.Get(small, compression=grpc.Compression.Gzip, timeout=TIMEOUT_SECONDS)
