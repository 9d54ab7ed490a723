"""Figures of incidents, resolutions and side effects."""
