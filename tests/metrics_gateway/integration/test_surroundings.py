"""The gateway's commands in a caller's environment: the container health check past a proxy, a closed pipe."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@contextmanager
def responding(status: int) -> Iterator[int]:
    """Yield the port of a server that gives every request this status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()

    server = HTTPServer(("127.0.0.1", 0), Handler)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_container_health_check_is_made_past_a_proxy(status: int, healthy: bool) -> None:
    dockerfile = (ROOT / "deploy/docker/Dockerfile").read_text()
    (line,) = [line for line in dockerfile.splitlines() if "9464/-/ready" in line]
    python, *arguments = json.loads(line[line.index("[") :])
    assert python == "python"
    with responding(status) as port:
        checked = subprocess.run(
            [sys.executable, *(each.replace(":9464", f":{port}") for each in arguments)],
            env={**os.environ, "http_proxy": "http://127.0.0.1:9"},
            capture_output=True,
            check=False,
        )
    assert (checked.returncode == 0) == healthy


def test_check_rules_into_a_closed_pipe_ends_as_sigpipe_does() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    rules = next((ROOT / "deploy/prometheus/rules").glob("*.y*ml"))
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-m", "metrics_gateway", "check-rules", str(rules)],
            stdout=closed,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (141, b"")
