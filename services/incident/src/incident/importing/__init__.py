"""Import of incidents and timelines from the previous system."""
