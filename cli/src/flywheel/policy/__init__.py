"""`flywheel policy`: a policy file before it takes effect."""
