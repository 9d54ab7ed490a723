"""An incident from Create to RESOLVED and Reopen, its timeline and its retention."""
