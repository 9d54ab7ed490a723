"""The services that are asked for statistics."""
