"""`flywheel import`: data of another system, written by the services' own import commands."""
