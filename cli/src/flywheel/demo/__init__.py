"""The command `demo`: the outage of 566 incidents, and the loop from a real alert to its verified recovery."""
