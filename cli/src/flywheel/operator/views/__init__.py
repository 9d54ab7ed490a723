"""How each resource is shown."""
