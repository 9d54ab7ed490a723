"""Knowledge: lessons from resolutions, searchable by symptoms."""
