"""Programs that an executor or a verifier runs: each is started, however many calls the process serves meanwhile."""

import asyncio
import sys

import pytest

# As the service runs: its package first, its event loop, a gRPC server and calls.
_SERVICE = """
import approval
import asyncio, collections, contextlib
import grpc.aio, uvloop

async def calls(port):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        while True:
            with contextlib.suppress(grpc.RpcError):
                await channel.unary_unary("/of.no/Service")(b"")

async def program():
    process = await asyncio.create_subprocess_exec("/bin/sh", "-c", "exit 1")
    return await process.wait()

async def main():
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    callers = [asyncio.create_task(calls(port)) for _ in range(4)]
    codes = collections.Counter()
    for _ in range(50):
        codes.update(await asyncio.gather(*(program() for _ in range(8))))
    print(dict(codes))
    for caller in callers:
        caller.cancel()
    await server.stop(0)

uvloop.run(main())
"""


@pytest.mark.asyncio(loop_scope="function")
async def test_every_program_is_started_and_its_exit_code_is_its_own() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _SERVICE, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert (process.returncode, printed.decode().strip()) == (0, "{1: 400}")
