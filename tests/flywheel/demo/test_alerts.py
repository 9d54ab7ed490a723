"""`flywheel demo --alerts`: the loop from a real alert to its verified recovery, and what it says when that fails."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flywheel.demo.monitoring_stand_in import monitoring_stand_in
from tests.flywheel.demo.running_demo import nothing_is_left, running_demo, started_in
from tests.flywheel.stack.running_stack import TIMEOUT_SECONDS, stand_ins
from tests.prometheus.programs import alertmanager, prometheus

ROOT = Path(__file__).parents[3]
LAST_LINE = "Everything runs on, for a look at the pages; Ctrl-C stops it."

# Times, ids, ports and fingerprints are the same word for all; the effects are in the order of the alphabet.
OUTPUT = """\
    page          http://PORT
    Prometheus    http://PORT/alerts
    Alertmanager  http://PORT

Two queues do not drain - Prometheus fires, Alertmanager posts, the intake opens incidents
  ✓ TIME  the queues grow
  ✓ TIME  Prometheus fires QueueDoesNotDrain for mails and orders
  ✓ TIME  INCIDENT is open, CRITICAL: The queue orders does not drain
  ✓ TIME  INCIDENT is open, CRITICAL: The queue mails does not drain

A repair is proposed and approved for each - people are notified that it waits for them
  ✓ TIME  APPROVAL is proposed by ai: HTTP POST restart-orders
  ✓ TIME  APPROVAL is proposed by ai: HTTP POST restart-mails
  ✓ TIME  people read: Approval needed: HTTP POST restart-orders
  ✓ TIME  APPROVAL is approved by alice
  ✓ TIME  people read: Approval needed: HTTP POST restart-mails
  ✓ TIME  APPROVAL is approved by alice
  ✓ TIME  the hook restart-orders has responded 200: the execution SUCCEEDED
  ✓ TIME  the hook restart-mails has responded 200: the execution SUCCEEDED

Has it helped? - a command that worked is no repair before the alert is gone
  ✓ TIME  the alert of orders is gone in Alertmanager
  ✓ TIME  recovery VERIFIED: the alert FINGERPRINT is not active in Alertmanager, at 2 looks in a row
  ✓ TIME  INCIDENT is RESOLVED as AUTO_REPAIRED
  ✓ TIME  people read: Resolved: The queue orders does not drain
  ✓ TIME  recovery NOT_RECOVERED: the alert FINGERPRINT is active in Alertmanager
  ✓ TIME  people read: Executed, not recovered: HTTP POST restart-mails
  ✓ TIME  INCIDENT is still OPEN

Timeline of INCIDENT - the queue orders
    TIME  OPENED             service:intake    The queue orders does not drain
    TIME  PROPOSED           ai                HTTP POST restart-orders
    TIME  APPROVED           alice
    TIME  EXECUTION_STARTED  service:approval  HTTP POST restart-orders
    TIME  EXECUTED           service:approval  HTTP POST restart-orders
    TIME  RECOVERED          service:approval  the alert FINGERPRINT is not active in Alertmanager, at 2 looks in a row
    TIME  RESOLVED           service:approval  AUTO_REPAIRED
    TIME  EFFECT_DONE        service:incident  DISPOSITION
    TIME  EFFECT_DONE        service:incident  KNOWLEDGE
    TIME  EFFECT_DONE        service:incident  NOTIFICATION
    TIME  EFFECT_DONE        service:incident  POSTMORTEM

Timeline of INCIDENT - the queue mails
    TIME  OPENED             service:intake    The queue mails does not drain
    TIME  PROPOSED           ai                HTTP POST restart-mails
    TIME  APPROVED           alice
    TIME  EXECUTION_STARTED  service:approval  HTTP POST restart-mails
    TIME  EXECUTED           service:approval  HTTP POST restart-mails
    TIME  NOT_RECOVERED      service:approval  the alert FINGERPRINT is active in Alertmanager

Figures - of the gateway, as this Prometheus has scraped them
  ✓ executions_total{outcome="succeeded"}: 2
  ✓ recoveries_total{outcome="verified"}: 1
  ✓ recoveries_total{outcome="not_recovered"}: 1
  ✓ incidents_resolved_total{resolution_type="auto_repaired"}: 1

The loop is closed: one repair has helped, and the other is not called a success.
"""

# What would break it if it took settings from its caller.
HOSTILE = {
    "APPROVAL_POLICY_FILE": "/nowhere",
    "INCIDENT_LISTEN": "nonsense",
    "INTAKE_TOKENS_FILE": "/nowhere",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "http_proxy": "http://127.0.0.1:9",
}


def shape(output: str) -> str:
    """The output, without what differs between runs."""
    for pattern, word in (
        (r" +\d+\.\d s", " TIME"),
        (r"127\.0\.0\.1:\d+", "PORT"),
        (r"\bINC-\d{8}-\w+", "INCIDENT"),
        (r"\bAPR-\d{8}-\w+", "APPROVAL"),
        (r"alert [0-9a-f]{16}\b", "alert FINGERPRINT"),
        (r"^ TIME", "    TIME"),
    ):
        output = re.sub(pattern, word, output, flags=re.MULTILINE)
    effects = re.compile(r"(?:.* EFFECT_DONE .*\n)+")
    return effects.sub(lambda found: "".join(sorted(found[0].splitlines(keepends=True))), output)


@pytest.mark.slow
def test_one_repair_is_verified_the_other_not_recovered_and_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    documented = re.search(r"^make demo ARGS=(--alerts)\b", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert documented is not None
    arguments = [documented[1], "--stay", f"--prometheus={prometheus()}", f"--alertmanager={alertmanager()}"]
    with running_demo(temporary, arguments, HOSTILE) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            if LAST_LINE in line:
                break
            lines.append(line)
        started = started_in(temporary)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert shape("".join(lines)) == OUTPUT
    assert (process.returncode, rest) == (128 + signal.SIGINT, "")
    assert {"incident", "approval", "metrics_gateway", "alert_intake"} < started.keys()
    assert nothing_is_left(temporary, started)


STEPS_OF_A_MOMENT = """
import sys
from pathlib import Path
from flywheel import __main__
from flywheel.demo.alerts import run
__main__.app = lambda **_named: run(prometheus=Path(sys.argv[1]), alertmanager=Path(sys.argv[2]), step_seconds=0.1)
__main__.main()
"""


def test_a_step_that_does_not_happen_ends_the_demo_and_says_how_far_the_alert_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in stand_ins(tmp_path).items():
        monkeypatch.setenv(name, value)
    programs = [option.partition("=")[2] for option in monitoring_stand_in(tmp_path)]
    ended = subprocess.run(
        [sys.executable, "-c", STEPS_OF_A_MOMENT, *programs],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    first, *details = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert first.startswith(
        "flywheel: Prometheus did not scrape the queues within 0.1 s: Prometheus fires nothing; Alertmanager has nothing; "
        "the intake has "
    )
    assert any(line.startswith("approval (runs):") for line in details)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--alerts"], "apt-get install prometheus prometheus-alertmanager"),
        (["--alerts", "--prometheus=/nowhere"], "--prometheus /nowhere: no such program"),
        (["--alerts", "--incidents=5"], "no effect with --alerts"),
        (["--stay"], "no effect without --alerts"),
    ],
)
def test_a_wrong_usage_or_a_missing_program_is_said_before_anything_starts(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    with running_demo(tmp_path / "tmp", arguments, {"PATH": str(tmp_path)}) as process:
        out, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 2
    assert words in re.sub(r"[\s│]+", " ", out)
    assert not any((tmp_path / "tmp").iterdir())
