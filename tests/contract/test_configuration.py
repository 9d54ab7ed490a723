"""docs/configuration.md is what docs/generate.py makes of the classes of the settings."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


def _generator() -> Any:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = _generator()


def test_the_document_is_the_generated_one() -> None:
    assert generator.generate(TEXT) == TEXT, "make docs"


@pytest.mark.parametrize(
    ("written", "generated"),
    [
        # Another default: as it is in the class.
        ("| `APPROVAL_COOLDOWN` | `6m` |", "| `APPROVAL_COOLDOWN` | `5m` |"),
        ("| `APPROVAL_COOLDOWN` | unset |", "| `APPROVAL_COOLDOWN` | `5m` |"),
        ("| `INCIDENT_DATABASE_URL` | unset |", "| `INCIDENT_DATABASE_URL` | required |"),
        ("| `APPROVAL_POLICY_FILE` | `/etc/policy.toml` |", "| `APPROVAL_POLICY_FILE` | unset |"),
        ("| `INTAKE_INSECURE` | `true` |", "| `INTAKE_INSECURE` | `false` |"),
        # The same in other words stays.
        ("| `APPROVAL_DEFAULT_TTL` | `1d` |", "| `APPROVAL_DEFAULT_TTL` | `1d` |"),
        (
            "| `APPROVAL_NOTIFY_TARGET` | `APPROVAL_LISTEN` |",
            "| `APPROVAL_NOTIFY_TARGET` | `APPROVAL_LISTEN` |",
        ),
    ],
)
def test_a_default_is_that_of_the_class(written: str, generated: str) -> None:
    name = written.split("|")[1]
    changed = re.sub(rf"^\|{re.escape(name)}\|[^|]*\|", written, TEXT, count=1, flags=re.MULTILINE)
    assert written in changed
    assert generated in generator.generate(changed)


def test_a_new_setting_gets_a_row_and_one_that_is_gone_loses_it() -> None:
    changed = re.sub(r"^\| `APPROVAL_COOLDOWN` .*\n", "", TEXT, count=1, flags=re.MULTILINE)
    changed = changed.replace("| `GATEWAY_LISTEN` |", "| `GATEWAY_GONE` | `1` | old |\n| `GATEWAY_LISTEN` |")
    found = generator.generate(changed)
    # With the comment of its field.
    assert "| `APPROVAL_COOLDOWN` | `5m` | No operation on a target within this time" in found
    assert "GATEWAY_GONE" not in found
