"""The command in a caller's environment: proxies, encodings, closed pipes."""

import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from flywheel.demo.scrape import scrape


class Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"up 1\n")


def test_the_gateway_is_scraped_past_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = HTTPServer(("127.0.0.1", 0), Metrics)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        assert scrape(f"127.0.0.1:{server.server_port}").value("up") == 1
    finally:
        server.shutdown()
        serving.join()
        server.server_close()


PRINTS = """
import sys
from flywheel import __main__
__main__.app = lambda **_named: print(sys.argv[1], flush=True)
__main__.main()
"""


def test_text_that_the_encoding_of_the_output_lacks_is_replaced() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PRINTS, "✓ done"],
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        check=False,
    )
    assert (printed.returncode, printed.stdout, printed.stderr) == (0, b"? done\n", b"")


def test_a_closed_pipe_ends_the_command_as_sigpipe_does() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        ended = subprocess.run(
            [sys.executable, "-c", PRINTS, "text"], stdout=closed, stderr=subprocess.PIPE, check=False
        )
    assert (ended.returncode, ended.stderr) == (141, b"")
