"""The flywheel command: a local stack, the demo, and an operator's verbs."""
