"""What resolved similar incidents before."""
