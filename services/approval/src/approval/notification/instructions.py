"""How to decide about an approval: a link, or the command."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

_METHOD = "awoooi.approval.v1.ApprovalService/Approve"


@dataclass(frozen=True, slots=True)
class Instructions:
    """How the people who are notified reach this service."""

    # With {approval_id} and {incident_id}; empty: messages have the command.
    link: str
    # Where the RPCs are served, as people reach it.
    address: str
    tls: bool
    authenticated: bool

    def how_to_decide(self, approval_id: str, incident_id: str) -> str:
        """Return the link of an approval, or the command that approves it."""
        if self.link:
            return self.link.replace("{approval_id}", approval_id).replace("{incident_id}", incident_id)
        words = ["grpcurl"]
        if not self.tls:
            words.append("-plaintext")
        if self.authenticated:
            # For other users of the machine can read a command line.
            words += ["-expand-headers", "-H", "authorization: Bearer ${TOKEN}"]
        else:
            words += ["-H", "awoooi-actor: YOUR-NAME"]
        words += ["-d", f'{{"approval_id": "{approval_id}"}}', self.address, _METHOD]
        return shlex.join(words)

    def who_may_decide(self, proposers: Sequence[str]) -> str:
        """Return who may decide about what these callers proposed."""
        others = "everybody with the role approver" if self.authenticated else "everybody"
        return f"{others} but {' and '.join(proposers)}, who proposed it"
