"""Stats of incidents, resolutions and side effects."""
