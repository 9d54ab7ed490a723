"""The commands of `flywheel`, one a file."""
