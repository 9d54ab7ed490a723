"""Incidents and timelines of the system before."""
