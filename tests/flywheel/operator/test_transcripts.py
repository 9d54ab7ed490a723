"""Every command of an operator, against a running deployment: what it prints, for people and for programs."""

from pathlib import Path

import pytest

from tests.flywheel.operator.deployment import Command, Deployment
from tests.flywheel.operator.transcript import Hook, Transcript

TRANSCRIPTS = sorted(Path(__file__).parent.glob("transcripts/*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_command_prints_what_its_transcript_says(
    path: Path, flywheel: Command, deployment: Deployment
) -> None:
    def stuck(incident_id: str) -> None:
        deployment.sql(
            "incident",
            "UPDATE incidents SET last_progress_time = now() - interval '3 hours' WHERE incident_id = $1",
            incident_id,
        )

    def park(service: str, identity: str) -> None:
        parked = "UPDATE outbox SET state = 'PARKED', done_time = NULL, last_error = 'refused'"
        if service == "approval":
            deployment.sql(service, f"{parked} WHERE job_id = $1", int(identity))
            return
        incident_id, effect, number = identity.split("/")
        deployment.sql(
            service,
            f"{parked} WHERE topic = $1 AND dedup_key = $2",
            f"effect.{effect}",
            f"{incident_id}/{number}",
        )

    def finish(delivery_id: str) -> None:
        # What is exactly once, and has been, fails when it is tried again.
        incident_id, effect, number = delivery_id.split("/")
        deployment.sql(
            "incident",
            "UPDATE outbox SET state = 'DONE', done_time = now(), lease_token = NULL WHERE topic = $1 AND dedup_key = $2",
            f"effect.{effect}",
            f"{incident_id}/{number}",
        )

    hooks: dict[str, Hook] = {"settle": deployment.settle, "stuck": stuck, "park": park, "finish": finish}
    Transcript(path, flywheel, hooks).compare()
