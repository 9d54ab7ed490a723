"""Figures of approvals, executions and deliveries."""
