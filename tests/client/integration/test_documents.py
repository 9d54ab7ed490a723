"""Every example of docs/client.md, run in its order against real services."""

import ast
import contextlib
import io
import re
from inspect import isawaitable
from pathlib import Path
from typing import Any

from tests.services import RunningService

DOCUMENT = Path(__file__).parents[3] / "docs/client.md"


async def test_every_example_runs(incident_service: RunningService, approval_service: RunningService) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    # In one pass, since a port of a service may be another one of the document.
    services = {"127.0.0.1:50051": incident_service.address, "127.0.0.1:50052": approval_service.address}
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(examples) > 10
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for example in examples:
            source = re.sub("|".join(services), lambda match: services[match[0]], example)
            code = compile(source, str(DOCUMENT), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = eval(code, names)  # noqa: S307 - what the document shows
            if isawaitable(result):
                await result
    output = printed.getvalue()
    assert "INCIDENT_STATE_NOT_ALLOWED RESOLVED ('OPEN',)\n" in output
    assert "\nNOT_FOUND (INCIDENT_NOT_FOUND): " in output
    assert names["executed"].approval.state == names["executed"].approval.STATE_SUCCEEDED
