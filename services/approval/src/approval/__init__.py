"""The approval service: turns a proposed action into a decision, an execution and a durable resolve."""
