"""What runs operations: the protocol, how executors are found, and those that come along."""
