"""A stand-in for Prometheus and Alertmanager that is ready and has nothing."""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NOTHING = {"/-/ready": "", "/api/v2/alerts": [], "/api/v1/alerts": {"data": {"alerts": []}}}
PROGRAM = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from monitoring_stand_in import main
main()
"""


class Nothing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = json.dumps(NOTHING.get(self.path.partition("?")[0], {"data": {"result": []}})).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def monitoring_stand_in(folder: Path) -> list[str]:
    """Write the program; return the options of the command that name it."""
    program = folder / "monitoring"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    return [f"--prometheus={program}", f"--alertmanager={program}"]


def main() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    listen = next(each for each in sys.argv if each.startswith("--web.listen-address="))
    host, _, port = listen.partition("=")[2].rpartition(":")
    ThreadingHTTPServer((host, int(port)), Nothing).serve_forever()
