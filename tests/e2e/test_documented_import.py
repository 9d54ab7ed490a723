"""The example of docs/import.md, and its table of fields."""

import asyncio
import re
from pathlib import Path

import pytest

from approval.importing.lines import ApprovalLine
from flywheel.stack.stack import Stack
from incident.importing.lines import IncidentLine
from tests.callers import approvals_at, incidents_at
from tests.imports import (
    flywheel_import,
)

DOCUMENT = Path(__file__).parents[2] / "docs/import.md"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """A local stack whose reconciler runs on request alone."""
    return Stack(
        tmp_path / "stack",
        incident_listen="127.0.0.1:0",
        approval_listen="127.0.0.1:0",
        gateway_listen="127.0.0.1:0",
        intake_listen="127.0.0.1:0",
        durable=True,
        environment={"APPROVAL_RECONCILE_EVERY": "24h"},
    )


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The document's example."""
    (lines,) = re.findall(r"```json\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL)
    path = tmp_path / "history.jsonl"
    path.write_text(lines, encoding="utf-8")
    return path


async def test_the_documents_example_is_imported_into_a_stack_that_runs_and_into_one_that_does_not(
    stack: Stack, example: Path
) -> None:
    options = ["--data-dir", str(stack.data_dir)]
    missing = await flywheel_import(example, variables={}, options=options)
    assert missing.returncode == 1
    assert "there is no stack's data in" in missing.stderr
    (said,) = re.findall(
        r"```text\n(incidents: .*?)```", DOCUMENT.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    await asyncio.to_thread(stack.start)
    try:
        done = await flywheel_import(example, variables={}, options=options)
        said = said.replace("127.0.0.1:50052", str(stack.approval.address))
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
        async with incidents_at(str(stack.incident.address)) as incidents:
            assert (await incidents.stats()).incidents.stuck == 1
        async with approvals_at(str(stack.approval.address)) as approvals:
            assert (await approvals.reconcile()).queued_count == 1
            await approvals.until_delivered("APR-20250507-0000A1")
    finally:
        await asyncio.to_thread(stack.stop)
    again = await flywheel_import(example, variables={}, options=options)
    assert (again.returncode, again.stdout, again.stderr) == (
        0,
        "nothing new: all 4 lines were imported before\n",
        "",
    )
    assert stack.database is not None
    assert not stack.database.is_running()
    # And the stack starts as before.
    await asyncio.to_thread(stack.start)
    await asyncio.to_thread(stack.stop)


def test_the_document_names_every_field_and_no_other() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for kind, line in (("incident", IncidentLine), ("approval", ApprovalLine)):
        section = re.split(r"^#+ ", text.split(f'### `"kind": "{kind}"`')[1], flags=re.MULTILINE)[0]
        first_cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
        named = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
        assert named == set(line.model_fields) - {"kind"}
