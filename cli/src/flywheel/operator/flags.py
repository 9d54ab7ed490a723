"""Flags and arguments that several commands have. A parameter has the name of its field in the contract."""

from datetime import datetime
from typing import Annotated, TypeAlias

import typer

from flywheel.operator.moments import moment

IncidentId: TypeAlias = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="Such as INC-20260507-99ADF2.")
]
IncidentIds: TypeAlias = Annotated[
    list[str],
    typer.Argument(metavar="INCIDENT...", help="Ids; - reads them from standard input, one a line."),
]
ApprovalId: TypeAlias = Annotated[
    str, typer.Argument(metavar="APPROVAL", help="Such as APR-20260507-99ADF2.")
]
OfIncident: TypeAlias = Annotated[
    str, typer.Option("--incident", metavar="INCIDENT", help="Of this incident.")
]
OfApproval: TypeAlias = Annotated[
    str, typer.Option("--approval", metavar="APPROVAL", help="Of this approval.")
]

Limit: TypeAlias = Annotated[int, typer.Option(min=0, help="How many are shown; 0: all.")]
Labels: TypeAlias = Annotated[
    list[str] | None, typer.Option("--label", metavar="KEY=VALUE", help="May be repeated.")
]
Fingerprint: TypeAlias = Annotated[str, typer.Option(help="The deduplication key.")]
Since: TypeAlias = Annotated[
    datetime | None,
    typer.Option("--since", parser=moment, metavar="AGO|TIME", help="From then on: 2h, 7d, or a time."),
]
Until: TypeAlias = Annotated[
    datetime | None, typer.Option("--until", parser=moment, metavar="AGO|TIME", help="Before then.")
]
IncludeExisting: TypeAlias = Annotated[
    bool, typer.Option("--existing", help="What is there comes first, then the changes.")
]
ResumeToken: TypeAlias = Annotated[
    str, typer.Option("--resume", metavar="TOKEN", help="Go on after the change with this resume_token.")
]
Reason: TypeAlias = Annotated[str, typer.Option(help="Why; kept on record.")]
DryRun: TypeAlias = Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")]
