"""Who may call what. Each caller needs one of the roles; what is not listed here is refused to everybody."""

from servicekit.identity.roles import (
    APPROVAL_SERVICE,
    APPROVER,
    DETECTOR,
    GATEWAY_SERVICE,
    OPERATOR,
    PROPOSER,
    VIEWER,
)
from servicekit.rpc.role_table import RoleTable, role_table

_READERS = (VIEWER, PROPOSER, APPROVER, OPERATOR, APPROVAL_SERVICE)

ROLES: RoleTable = {
    **role_table(
        "awoooi.incident.v1.IncidentService",
        {
            "Get": _READERS,
            "List": _READERS,
            "LookupIncidents": _READERS,
            "ListEvents": _READERS,
            "ListSideEffects": _READERS,
            "Watch": _READERS,
            "GetPostmortem": _READERS,
            "SearchKnowledge": _READERS,
            "Create": (OPERATOR, DETECTOR),
            "StartInvestigation": (OPERATOR, APPROVAL_SERVICE),
            "AddEvent": (OPERATOR, APPROVAL_SERVICE),
            "Resolve": (OPERATOR, APPROVAL_SERVICE),
            "BatchResolve": (OPERATOR, APPROVAL_SERVICE),
            "Reopen": (OPERATOR,),
            "RetrySideEffect": (OPERATOR,),
            "RetrySideEffects": (OPERATOR,),
            "DismissSideEffect": (OPERATOR,),
        },
    ),
    **role_table(
        "awoooi.flywheel.v1.FlywheelStatsService",
        {"GetFlywheelStats": (VIEWER, OPERATOR, GATEWAY_SERVICE)},
    ),
}
