"""Who may call what. Each caller needs one of the roles; what is not listed here is refused to everybody.

Whose proposal it is counts besides, in the transaction that decides: a proposer never decides about its own, and cancels
no other's.
"""

from servicekit.identity.roles import (
    APPROVAL_SERVICE,
    APPROVER,
    GATEWAY_SERVICE,
    INTAKE,
    INTAKE_SERVICE,
    OPERATOR,
    PROPOSER,
    VIEWER,
)
from servicekit.rpc.role_table import RoleTable, role_table

_READERS = (VIEWER, PROPOSER, APPROVER, OPERATOR, APPROVAL_SERVICE)

# Who may cancel what others proposed.
CANCELS_ANY = OPERATOR

ROLES: RoleTable = {
    **role_table(
        "awoooi.approval.v1.ApprovalService",
        {
            # The alert intake resolves no incident whose approval is EXECUTING.
            "Get": (*_READERS, INTAKE, INTAKE_SERVICE),
            "List": (*_READERS, INTAKE, INTAKE_SERVICE),
            "ListExecutions": _READERS,
            "ListDeliveries": _READERS,
            "Watch": _READERS,
            "Propose": (PROPOSER, OPERATOR),
            "Cancel": (PROPOSER, OPERATOR),
            "Approve": (APPROVER,),
            "Reject": (APPROVER,),
            # The worker executes, too, in this process and not by an RPC.
            "Execute": (OPERATOR,),
            "RetryDelivery": (OPERATOR,),
            "RetryDeliveries": (OPERATOR,),
            "DismissDelivery": (OPERATOR,),
            "Reconcile": (OPERATOR,),
            "RemoveCanary": (OPERATOR,),
        },
    ),
    **role_table(
        "awoooi.flywheel.v1.FlywheelStatsService",
        {"GetFlywheelStats": (VIEWER, OPERATOR, GATEWAY_SERVICE)},
    ),
}
