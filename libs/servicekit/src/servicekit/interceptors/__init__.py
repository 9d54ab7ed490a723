"""What every RPC passes through, in order: telemetry, errors, deadline, identity, validation.

The layers are composed once for each method, when it is first called, into one handler; a call pays for the work of the
layers and not for their assembly.
"""
