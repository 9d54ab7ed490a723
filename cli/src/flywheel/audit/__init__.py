"""`flywheel audit`: exports of the services' audit trails, and their proof. docs/audit.md has the format."""
