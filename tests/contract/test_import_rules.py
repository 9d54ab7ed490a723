"""Imports point down: who may import whom.

A test of its own and not import-linter's contracts, because the rules are lists of what is allowed ("the standard library
only", "tables, model, errors, sqlalchemy"), and those contracts can only say what is forbidden.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PACKAGES = {
    "servicekit": ROOT / "libs/servicekit/src/servicekit",
    "incident": ROOT / "services/incident/src/incident",
    "approval": ROOT / "services/approval/src/approval",
    "metrics_gateway": ROOT / "services/metrics-gateway/src/metrics_gateway",
    "flywheel": ROOT / "cli/src/flywheel",
}

# What no module of a package may import: the packages meet in the contracts, and the command starts services as processes.
NEVER = {
    "servicekit": {"incident", "approval", "metrics_gateway", "flywheel", "awoooi"},
    "incident": {"approval", "metrics_gateway", "flywheel"},
    "approval": {"incident", "metrics_gateway", "flywheel"},
    "metrics_gateway": {"incident", "approval", "flywheel"},
    "flywheel": {"incident", "approval", "metrics_gateway", "servicekit"},
}

# What a module of the two services may import besides the standard library. A leading dot means its own package.
# A module without a line here (__main__ composes everything; settings, tables, jobs) is bound by NEVER alone.
LAYERS = {
    "servicer": {
        ".use_cases",
        ".timeline_use_cases",
        ".execution",
        ".reconcile",
        ".stats",
        ".watch",
        ".proto_mapping",
        ".stats_mapping",
        ".watch_mapping",
        "awoooi",
        "grpc",
        "servicekit",
    },
    # sqlalchemy.ext.asyncio: the engine that a use case opens its transaction on; statements are the repository's.
    "use_cases": {
        ".model",
        ".errors",
        ".repository",
        ".listing",
        ".timeline",
        ".knowledge",
        ".deliveries",
        ".execution_log",
        ".action_grammar",
        ".policy",
        "servicekit",
        "sqlalchemy.ext.asyncio",
        "structlog",
    },
    # The incident service's second file of use cases.
    "timeline_use_cases": {
        ".model",
        ".errors",
        ".repository",
        ".timeline",
        ".side_effects",
        ".knowledge",
        "servicekit",
        "sqlalchemy.ext.asyncio",
    },
    # The approval service's other files of use cases: execution, operations, reconcile.
    "policy": {".model"},
    "judgement": {".model", ".errors", ".action_grammar"},
    "timeline": {".model", "sqlalchemy", "servicekit"},
    "operations_repository": {".model", ".repository", ".execution_log", "servicekit", "sqlalchemy"},
    "operations": {
        ".model",
        ".errors",
        ".judgement",
        ".repository",
        ".operations_repository",
        ".deliveries",
        ".timeline",
        ".executors",
        "servicekit",
        "sqlalchemy.ext.asyncio",
        "structlog",
    },
    "execution": {
        ".judgement",
        ".operations",
        ".timeline",
        ".executors",
        ".model",
        ".errors",
        ".repository",
        ".deliveries",
        ".action_grammar",
        "servicekit",
        "sqlalchemy.ext.asyncio",
        "structlog",
    },
    "repository": {".tables", ".model", ".errors", "sqlalchemy", "servicekit"},
    "effects": {".model", "sqlalchemy"},
    "side_effects": {".model", "sqlalchemy"},
    "knowledge": {".model", ".effects", "sqlalchemy"},
    "execution_log": {".tables", ".model", "sqlalchemy"},
    # Watch: its use case, the feed of the process and what fills it.
    "watch": {
        ".model",
        ".changes",
        ".errors",
        ".watch_feed",
        ".watch_repository",
        ".repository",
        ".listing",
        "servicekit",
        "sqlalchemy.ext.asyncio",
    },
    "watch_feed": {".changes", ".errors"},
    "watch_tailer": {
        ".changes",
        ".watch_feed",
        ".watch_repository",
        "servicekit",
        "sqlalchemy.ext.asyncio",
        "structlog",
    },
    "watch_repository": {".model", ".changes", ".repository", "sqlalchemy"},
    "changes": {".model"},
    "deliveries": {".model", "sqlalchemy", "servicekit"},
    "postmortem": {".model", ".effects", ".wording", "jinja2"},
    "webhook": {".effects", "httpx", "servicekit"},
    "notification": {".effects", ".wording", "apprise", "servicekit", "structlog"},
    "wording": set(),
    "action_grammar": {".model"},
    "listing": {".repository", ".tables", ".model", ".errors", "sqlalchemy", "servicekit"},
    # The import: lines, what is written of them, the statements, the use case.
    "import_lines": {".model", ".import_timeline", ".action_grammar", "pydantic", "servicekit"},
    "import_timeline": {".model", "pydantic", "servicekit"},
    "import_rows": {".model", ".import_lines", ".execution_log"},
    "import_repository": {
        ".model",
        ".effects",
        ".import_timeline",
        ".deliveries",
        "servicekit",
        "sqlalchemy",
    },
    "import_events": {".model", "servicekit", "sqlalchemy"},
    "importing": {
        ".import_lines",
        ".import_timeline",
        ".import_rows",
        ".import_repository",
        ".import_events",
        ".repository",
        ".stats",
        "pydantic",
        "servicekit",
        "sqlalchemy.ext.asyncio",
    },
    "proto_mapping": {".model", ".errors", "awoooi", "google", "servicekit"},
    "stats_mapping": {".model", ".stats", ".proto_mapping", "awoooi", "google", "servicekit"},
    "watch_mapping": {".model", ".changes", ".proto_mapping", "awoooi", "google", "servicekit"},
    "status_codes": {".errors", "grpc", "servicekit"},
    "model": {".errors"},
    "errors": {".model"},
}
LAYERED = ("incident", "approval")


def imports(tree: ast.Module, module: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of everything imported, also inside functions; relative names made absolute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def within(name: str, roots: set[str]) -> bool:
    """Whether a dotted name is one of the roots or lies below one."""
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def violations(source: str, module: str) -> list[str]:
    """What a module's source imports against the rules, as `line: name`. Modules are named as `package.module`."""
    package, _, rest = module.partition(".")
    layer = rest.partition(".")[0]
    tree = ast.parse(source)
    found = [(line, name) for line, name in imports(tree, module) if within(name, NEVER[package])]
    if package in LAYERED:
        if layer in LAYERS:
            allowed = {f"{package}{each}" if each.startswith(".") else each for each in LAYERS[layer]}
            allowed |= {f"{package}.{layer}"} | sys.stdlib_module_names
            found += [(line, name) for line, name in imports(tree, module) if not within(name, allowed)]
        if layer != "status_codes":
            found += [
                (node.lineno, "grpc.StatusCode: codes are status_codes.py's")
                for node in ast.walk(tree)
                if (isinstance(node, ast.Attribute) and node.attr == "StatusCode")
                or (isinstance(node, ast.alias) and node.name == "StatusCode")
            ]
    return [f"{line}: {name}" for line, name in sorted(set(found))]


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of this tree with its file."""
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            yield ".".join([package, *path.relative_to(folder).with_suffix("").parts]), path


@pytest.mark.parametrize(("module", "path"), [pytest.param(*each, id=each[0]) for each in modules()])
def test_a_module_imports_only_what_its_layer_may(module: str, path: Path) -> None:
    assert violations(path.read_text(encoding="utf-8"), module) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param("servicekit.rpc.server", "import incident.model", id="servicekit importing a service"),
        pytest.param(
            "servicekit.errors", "from awoooi.incident.v1 import incident_pb2", id="servicekit, a contract"
        ),
        pytest.param(
            "approval.delivery.handlers", "from incident.model import State", id="a service importing another"
        ),
        pytest.param(
            "flywheel.stack.stack", "import approval.__main__", id="the command importing a service"
        ),
        pytest.param("incident.model", "import sqlalchemy", id="the model importing a library"),
        pytest.param("incident.model", "from incident import tables", id="the model importing upwards"),
        pytest.param("incident.errors", "from . import repository", id="errors importing relatively upwards"),
        pytest.param(
            "incident.servicer",
            "from incident.repository import Incidents",
            id="a servicer with a repository",
        ),
        pytest.param("incident.servicer", "from sqlalchemy.ext import asyncio", id="a servicer with SQL"),
        pytest.param("approval.lifecycle.repository", "import grpc", id="a repository with gRPC"),
        pytest.param(
            "approval.lifecycle.repository.rows",
            "from awoooi.approval.v1 import approval_pb2",
            id="a layer as a folder",
        ),
        pytest.param(
            "approval.lifecycle.use_cases",
            "def run():\n    import grpc.aio",
            id="an import inside a function",
        ),
        pytest.param(
            "approval.delivery.handlers",
            "import grpc\ncode = grpc.StatusCode.NOT_FOUND",
            id="a code outside status_codes",
        ),
        pytest.param(
            "approval.delivery.handlers", "from grpc import StatusCode", id="a code imported by name"
        ),
    ],
)
def test_an_import_against_the_rules_is_found(module: str, source: str) -> None:
    assert len(violations(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        pytest.param(
            "incident.model", "from datetime import datetime\nimport enum", id="the standard library"
        ),
        pytest.param(
            "incident.servicer",
            "from incident import use_cases\nimport grpc",
            id="a servicer's own layer below",
        ),
        pytest.param(
            "incident.status_codes",
            "import grpc\ncode = grpc.StatusCode.NOT_FOUND",
            id="codes in their place",
        ),
        pytest.param(
            "approval.__main__", "from approval import repository\nimport grpc, uvloop", id="the composer"
        ),
        pytest.param(
            "metrics_gateway.sources.source",
            "import grpc\ndown = grpc.StatusCode.UNAVAILABLE",
            id="no layers there",
        ),
    ],
)
def test_an_import_within_the_rules_is_let_through(module: str, source: str) -> None:
    assert violations(source, module) == []
