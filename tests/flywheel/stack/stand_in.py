"""A stand-in for a service: `python stand_in.py NAME`.

Reads the settings of the real one. STAND_IN_<NAME> makes it faulty: `crashing` exits immediately, `never_ready` runs and
never becomes ready, `ignores_sigterm` does so, `parent` starts a child process.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import asyncpg
import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
    name = sys.argv[1]
    behaviour = os.environ.get(f"STAND_IN_{name.upper()}", "")
    stop = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "ignores_sigterm" else lambda *_: stop.set())
    if behaviour == "crashing":
        print("the stand-in crashes on request", file=sys.stderr)
        sys.exit(3)
    if behaviour == "parent":
        subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    address = os.environ[f"{name.upper()}_LISTEN"]
    if name in ("gateway", "intake"):
        serve_http(address, stop)
    else:
        serve_grpc(name, address, stop, ready=behaviour != "never_ready")


def serve_grpc(name: str, address: str, stop: threading.Event, *, ready: bool) -> None:
    server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.so_reuseport", 0)])
    servicer = health.HealthServicer()
    servicer.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(address)
    server.start()
    asyncio.run(count_start(os.environ[f"{name.upper()}_DATABASE_URL"]))
    if ready:
        servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    print("serving", address, file=sys.stderr, flush=True)
    stop.wait()
    server.stop(1).wait()


async def count_start(database_url: str) -> None:
    """Insert a row into the database, which must exist, for each start."""
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS starts (started timestamptz DEFAULT now())")
    await connection.execute("INSERT INTO starts DEFAULT VALUES")
    await connection.close()


def serve_http(address: str, stop: threading.Event) -> None:
    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/-/ready" else 404)
            self.end_headers()

    host, _, port = address.rpartition(":")
    server = HTTPServer((host, int(port)), Ready)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stop.wait()


if __name__ == "__main__":
    main()
