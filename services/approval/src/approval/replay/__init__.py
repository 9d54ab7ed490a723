"""What a policy would have decided about past proposals."""
