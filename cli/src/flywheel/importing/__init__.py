"""`flywheel import`: rows of the system before, written by the services' own import commands."""
