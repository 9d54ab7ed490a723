"""The priority of hostile processes."""

import os

# A hostile caller has a machine of its own: here it takes the processor time that the services and good clients leave.
_NICE = 15


def give_way() -> None:
    """Leave the processors to the services and good clients."""
    os.nice(_NICE)
