"""What the documents name exists: links, headings, make targets, settings, decision records."""

import re
from itertools import chain
from pathlib import Path

import pytest

from alert_intake.settings import IntakeSettings
from approval.settings import ApprovalSettings
from incident.settings import IncidentSettings
from metrics_gateway.settings import GatewaySettings

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
# Read by the factories of executors and verifiers, not by the service's settings.
_PLUG_INS = (
    r"APPROVAL_(KUBERNETES|HTTP)_\w+"
    r"|APPROVAL_VERIFIER_(URL|INSECURE|TOKEN_FILE|USERNAME|PASSWORD_FILE|TLS_\w+|SETTLE|EXPRESSIONS_FILE)"
)


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_to_a_file_or_heading_resolves(document: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)]+)\)", document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    assert not broken


def test_every_file_that_contributors_are_sent_to_exists() -> None:
    """Of the documents for contributors, a path may be given from the package on: `outbox/queue.py`."""
    folders = [
        ROOT / name for name in ("cli", "deploy", "docs", "libs", "protos", "release", "services", "tests")
    ]
    files = [f"/{path.relative_to(ROOT)}" for folder in folders for path in folder.rglob("*.*")]
    named = set(
        chain.from_iterable(
            re.findall(r"`((?:\w+/)*\w+\.(?:py|ini|proto))`", (ROOT / document).read_text(encoding="utf-8"))
            for document in ("docs/architecture.md", "CONTRIBUTING.md")
        )
    )
    assert "outbox/dead_letters.py" in named
    missing = [
        name
        for name in sorted(named)
        if not (ROOT / name).exists() and not any(file.endswith(f"/{name}") for file in files)
    ]
    assert missing == []


def test_every_make_target_that_a_document_names_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    named = set(
        chain.from_iterable(re.findall(r"(?:^|`)make ([a-z-]+)", text, re.MULTILINE) for text in texts)
    )
    assert "up" in named
    assert named <= targets


def test_every_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    records = {path.name for path in folder.glob("[0-9]*.md")}
    assert records
    assert records == set(
        re.findall(r"\((\d{4}-[^)]+)\)", (folder / "README.md").read_text(encoding="utf-8"))
    )


def test_every_setting_is_documented_and_every_documented_variable_is_a_setting() -> None:
    document = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([A-Z_]+)` \|", document, flags=re.MULTILINE)
    settings = {
        f"{prefix}_{field.upper()}"
        for prefix, fields in (
            ("INCIDENT", IncidentSettings.model_fields),
            ("APPROVAL", ApprovalSettings.model_fields),
            ("INTAKE", IntakeSettings.model_fields),
            ("GATEWAY", GatewaySettings.model_fields),
        )
        for field in fields
    }
    assert len(documented) == len(set(documented))
    assert {name for name in documented if not re.fullmatch(_PLUG_INS, name)} == settings
