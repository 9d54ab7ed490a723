"""`flywheel doctor`: checks of a deployment, each with what to do when it fails."""
