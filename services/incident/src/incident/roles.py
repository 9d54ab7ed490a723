"""Who may call what. Each caller needs one of the roles; what is not listed here is refused to everybody."""

from servicekit.identity.roles import (
    APPROVAL_SERVICE,
    APPROVER,
    DETECTOR,
    GATEWAY_SERVICE,
    INTAKE,
    INTAKE_SERVICE,
    OPERATOR,
    PROPOSER,
    VIEWER,
)
from servicekit.rpc.role_table import RoleTable, role_table

_READERS = (VIEWER, PROPOSER, APPROVER, OPERATOR, APPROVAL_SERVICE)
# The alert intake, by its certificate or by a token.
_INTAKE = (INTAKE, INTAKE_SERVICE)

ROLES: RoleTable = {
    **role_table(
        "awoooi.incident.v1.IncidentService",
        {
            "Get": (*_READERS, *_INTAKE),
            "List": (*_READERS, *_INTAKE),
            "LookupIncidents": _READERS,
            "ListEvents": (*_READERS, *_INTAKE),
            "ListSideEffects": _READERS,
            "Watch": _READERS,
            "GetPostmortem": _READERS,
            "SearchKnowledge": _READERS,
            "Create": (OPERATOR, DETECTOR, *_INTAKE),
            "StartInvestigation": (OPERATOR, APPROVAL_SERVICE),
            "AddEvent": (OPERATOR, APPROVAL_SERVICE),
            "Resolve": (OPERATOR, APPROVAL_SERVICE, *_INTAKE),
            "BatchResolve": (OPERATOR, APPROVAL_SERVICE),
            "Reopen": (OPERATOR,),
            "RemoveCanary": (OPERATOR,),
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
