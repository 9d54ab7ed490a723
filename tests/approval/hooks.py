"""An approval service that may call hooks, and the receiver behind them."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from standardwebhooks import Webhook, WebhookVerificationError

from tests.approval.conftest import AT_REST
from tests.callers import Approvals, approvals_at
from tests.receiver import Received, Receiver
from tests.services import RunningService, healthy_service

SECRET = "a secret of enough characters"


def hook_variables(
    folder: Path, receiver: Receiver, *, hooks: int = 100, timeout: str = "60s"
) -> Mapping[str, str]:
    """The variables of a service with the hooks hook-0, hook-1, … at the receiver."""
    (folder / "secret").write_text(f"{SECRET}\n")
    path = folder / "hooks.toml"
    path.write_text(
        "\n".join(
            f'[hooks.hook-{number}]\nurl = "{receiver.url(f"/hook-{number}")}"\n'
            f'secret_file = "secret"\ntimeout = "{timeout}"\n'
            for number in range(hooks)
        )
    )
    return {"APPROVAL_EXECUTORS": "http", "APPROVAL_HTTP_HOOKS_FILE": str(path)}


# For tests that are about something else than limits.
WITHOUT_LIMITS = {"APPROVAL_COOLDOWN": "0s", "APPROVAL_OPERATIONS_PER_HOUR": "1000"}


@dataclass(frozen=True)
class Hooked:
    """An approval service that may call hooks."""

    approvals: Approvals
    service: RunningService
    receiver: Receiver
    _numbers: Iterator[int]

    def new_action(self) -> str:
        """An action on a hook that was not called yet."""
        return f"HTTP POST hook-{next(self._numbers)}"

    def requests_for(self, approval_id: str) -> Sequence[Received]:
        """The requests of an approval's executions."""
        return [
            request for request in self.receiver.requests if request.headers["idempotency-key"] == approval_id
        ]


@asynccontextmanager
async def hooked_service(
    database_url: str, receiver: Receiver, variables: Mapping[str, str]
) -> AsyncIterator[Hooked]:
    """An approval service with these variables, and those of `hook_variables` among them; until the block ends."""
    async with (
        healthy_service("approval", database_url, variables=AT_REST | dict(variables)) as running,
        approvals_at(running.address) as approvals,
    ):
        yield Hooked(approvals, running, receiver, count())


def is_signed(request: Received) -> bool:
    """Whether a request has the signature that a receiver should verify."""
    try:
        Webhook(SECRET.encode()).verify(request.body, dict(request.headers), json_parse=False)
    except WebhookVerificationError:
        return False
    return True
