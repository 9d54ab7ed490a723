"""Logs: one JSON object a line, and no secret in any of them."""

import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from servicekit.process.log import redact_secrets, redact_url_passwords


class QuotesItsUrlError(Exception):
    def __str__(self) -> str:
        return "cannot connect to postgresql://app:hunter2@db/x"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://app:hunter2@db/x",
        "postgresql://:hunter2@db/x",
        "POSTGRESQL://app:hunter2@db",
        "two: a://b:hunter2@c and d://e:hunter2@f",
        "postgresql://app:hunter2:hunter2@db/x",
        "postgresql://app:hunter2/hunter2@db/x",
        "postgresql://app:hunter2@hunter2@db/x",
        "postgresql://app:hunter2#hunter2@db/x?sslmode=require",
        "error\nat postgres+asyncpg://app:hunter2@h1,h2/x?target_session_attrs=read-write",
        "postgresql:///x?host=/run/db&password=hunter2",
        "postgresql://db/x?user=app&password=hunter2&sslmode=require",
    ],
)
def test_the_password_of_a_url_is_taken_out_of_any_text(text: str) -> None:
    redacted = redact_url_passwords(text)
    assert "hunter2" not in redacted
    assert "[redacted]" in redacted


@pytest.mark.parametrize(
    "text",
    ["x" * 1_000_000, "a://" * 250_000, "a://b:" * 160_000, "a://b:" + "c" * 1_000_000, ":" * 1_000_000],
    ids=["letters", "schemes", "passwords without an end", "a long password", "colons"],
)
def test_a_megabyte_of_text_does_not_hold_up_the_process(text: str) -> None:
    """A caller's text may be in it. Were the time to grow with the square, this would take hours."""
    program = "import sys; from servicekit.process.log import redact_url_passwords; redact_url_passwords(sys.stdin.read())"
    subprocess.run([sys.executable, "-c", program], input=text, text=True, check=True, timeout=60)


@pytest.mark.parametrize(
    "text",
    ["", "no url", "http://host:80/path", "postgresql://db/x", "mail a@b.c", "postgresql:///x?host=/run"],
)
def test_a_text_without_a_password_stays_as_it_is(text: str) -> None:
    assert redact_url_passwords(text) == text


@pytest.mark.parametrize(
    "event",
    [
        {"password": "hunter2"},
        {"db_passwd": "hunter2"},
        {"API_KEY": "hunter2"},
        {"apikey": "hunter2"},
        {"authorization": "Bearer hunter2"},
        {"bearer_token": "hunter2"},
        {"client_secret": b"hunter2"},
        {"credentials": {"user": "hunter2"}},
        {"url": "postgresql://app:hunter2@db/x"},
        {"error": QuotesItsUrlError()},
        {"settings": {"url": "postgresql://app:hunter2@db/x"}},
        {"settings": {"password": "hunter2"}},
        {"urls": ["postgresql://app:hunter2@db/x"]},
    ],
    ids=lambda event: ascii(event).replace("hunter2", ""),
)
def test_secrets_are_taken_out_of_an_event(event: dict[str, Any]) -> None:
    line = json.dumps(redact_secrets(None, "info", event), default=str)
    assert "hunter2" not in line
    assert "[redacted]" in line


@pytest.mark.parametrize(
    "event", [{"token": None}, {"secrets": 3}, {"has_password": True}, {"attempts": 1, "name": "x"}], ids=str
)
def test_what_is_no_secret_stays(event: dict[str, Any]) -> None:
    assert redact_secrets(None, "info", dict(event)) == event


LOGGING = """
import logging
import structlog
from servicekit.process.log import configure_logging
configure_logging(service="sample", level="INFO")
log = structlog.get_logger()
log.debug("not logged")
log.info("plain", text="first\\nsecond\\u2028third", number=1)
try:
    raise ValueError("postgresql://app:hunter2@db")
except ValueError:
    log.exception("failed")
logging.getLogger("library").warning("from a %s", "postgresql://app:hunter2@db")
logging.getLogger("library").info("not logged")
"""


def test_every_line_is_a_json_object_on_standard_error() -> None:
    done = subprocess.run([sys.executable, "-c", LOGGING], capture_output=True, check=True, text=True)
    assert not done.stdout
    assert "hunter2" not in done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    plain, failed, library = lines
    assert plain.pop("timestamp").endswith("Z")
    assert plain == {
        "service": "sample",
        "level": "info",
        "event": "plain",
        "text": "first\nsecond\u2028third",
        "number": 1,
    }
    assert (failed["level"], failed["event"]) == ("error", "failed")
    assert "ValueError" in failed["exception"]
    assert (library["service"], library["level"], library["logger"]) == ("sample", "warning", "library")
    assert library["event"] == "from a postgresql://app:[redacted]@db"


NEVER_RAISES = """
import asyncio
import logging
import sys
import structlog
from servicekit.process.log import configure_logging
class Unprintable:
    def __str__(self):
        raise ZeroDivisionError
class UnprintableError(Exception, Unprintable):
    pass
configure_logging(service="sample", level="INFO")
log = structlog.get_logger()
log.info("unprintable", value=Unprintable())
log.info("unprintable key", **{"a": {Unprintable(): 1}})
log.error("unprintable error", exc_info=UnprintableError())
logging.getLogger("library").warning("wrong %d arguments", "many", 1)
logging.getLogger("library").warning("unprintable %s", Unprintable())
logging.getLogger("library").warning("plain")
loop = asyncio.new_event_loop()
loop.call_exception_handler({"message": "of the event loop"})
loop.close()
print("printed postgresql://app:hunter2@db/x", file=sys.stderr)
raise ValueError("postgresql://app:hunter2@db/x")
"""


def test_what_cannot_be_printed_costs_its_value_or_its_line_and_never_raises() -> None:
    done = subprocess.run([sys.executable, "-c", NEVER_RAISES], capture_output=True, check=False, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [line["event"] for line in lines] == [
        "unprintable",
        "unprintable key",
        "unprintable error",
        # Of the library's, the two that cannot be a line.
        "log_lines_dropped",
        "plain",
        "of the event loop",
    ]
    assert [line.get("log_error") for line in lines[:2]] == ["ZeroDivisionError", "ZeroDivisionError"]
    dropped = lines[3]
    assert dropped.pop("timestamp").endswith("Z")
    assert dropped == {"service": "sample", "event": "log_lines_dropped", "level": "warning", "lines": 2}


def test_passwords_in_urls_are_removed_from_everything_that_is_written_to_standard_error() -> None:
    """A traceback, a warning, a print: not everything goes through a logger."""
    done = subprocess.run([sys.executable, "-c", NEVER_RAISES], capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert "printed postgresql://app:[redacted]@db/x" in done.stderr
    assert done.stderr.splitlines()[-1] == "ValueError: postgresql://app:[redacted]@db/x"


@pytest.mark.parametrize("output", ["2>/dev/full", "2>&-"])
def test_a_log_that_cannot_be_written_changes_no_exit_code(output: str) -> None:
    shell = ["sh", "-c", f'exec "$0" -c "$1" {output}', sys.executable, LOGGING]
    assert subprocess.run(shell, check=False).returncode == 0


REPEATING = """
import logging, sys
import structlog
from servicekit.process.log import configure_logging, suppressed_lines
configure_logging(service="sample")
for number in range(1500):
    structlog.get_logger().error("ours", number=number)
    logging.getLogger("library").error("number %d", number)
print(suppressed_lines())
"""


def test_repeated_lines_are_sampled_errors_included_and_the_rest_is_reported_at_the_end() -> None:
    run = subprocess.run([sys.executable, "-c", REPEATING], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [line["number"] for line in lines if line["event"] == "ours"] == list(range(1000))
    assert sum(line.get("logger") == "library" for line in lines) == 1000
    reports = [(line["of"], line["lines"], line["level"]) for line in lines if line["event"] == "suppressed"]
    assert reports == [("ours", 500, "warning"), ("library", 500, "warning")]
    assert run.stdout.strip() == "{'ours': 500, 'library': 500}"


ROTATING = """
import os, sys
from pathlib import Path
import structlog
from servicekit.process.log import configure_logging
from servicekit.process.log_stream import LogFile
configure_logging(service="sample", file=LogFile(Path(sys.argv[1]), 4096))
for number in range(900):
    structlog.get_logger().info("line", number=number)
os.write(2, b"the end\\n")
"""


def test_a_log_file_is_rotated_while_the_process_runs(tmp_path: Path) -> None:
    path = tmp_path / "sample.log"
    run = subprocess.run(
        [sys.executable, "-c", ROTATING, str(path)], capture_output=True, text=True, check=True
    )
    assert run.stderr == ""
    assert {each.name for each in tmp_path.iterdir()} == {"sample.log", "sample.log.1"}
    assert all(each.stat().st_size < 2 * 4096 for each in tmp_path.iterdir())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    *lines, end = ((tmp_path / "sample.log.1").read_text() + path.read_text()).splitlines()
    # All that is written to standard error is there.
    assert end == "the end"
    numbers = [json.loads(line)["number"] for line in lines]
    assert numbers == list(range(numbers[0], 900))


def test_a_log_file_that_cannot_be_written_is_logged_and_standard_error_stays(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", ROTATING, str(tmp_path / "none" / "sample.log")],
        capture_output=True,
        text=True,
        check=True,
    )
    first, *others, _end = run.stderr.splitlines()
    assert (json.loads(first)["event"], json.loads(first)["reason"]) == (
        "log_file_unusable",
        "No such file or directory",
    )
    assert len(others) == 900
