"""`check-rules`: finds the series, labels and values in rules and dashboards that the gateway does not export."""
