"""Approvals and executions of the system before."""
