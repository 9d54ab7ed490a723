"""What every RPC passes through, in order: telemetry, errors, drain, deadline, identity, validation.

The layers are composed once around each method's handler, when it is registered; a call pays for the work of the layers
and not for their assembly.
"""
