"""`check-rules`: alert rules and dashboards held against the exported series."""
