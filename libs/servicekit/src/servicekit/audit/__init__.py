"""The audit trail: append-only records in hash chains, written with the change, exported, and what refuses to edit them.

docs/audit.md has the format. `flywheel audit verify` is written from that document and shares no code with this package.
"""
