"""Whether an operation that worked has helped: the looks after it, and what they lead to."""
