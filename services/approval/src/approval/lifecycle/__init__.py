"""An approval from Propose to its decision or expiry."""
