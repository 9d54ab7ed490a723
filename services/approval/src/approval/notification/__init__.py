"""Notifications of the people who decide about approvals."""
