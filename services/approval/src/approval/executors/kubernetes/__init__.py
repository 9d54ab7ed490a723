"""The kubernetes executor: restarts, scales, rolls back and deletes what it is allowed to, and waits for the result."""
