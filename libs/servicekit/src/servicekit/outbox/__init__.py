"""The transactional outbox: an intent committed with the state change that caused it, delivered until acknowledged.

- `tables`: the table and its indexes, for each service's own database;
- `queue`: the statements, enqueue in the caller's transaction first of all;
- `handler`: what a service gives for each topic;
- `worker`: claims, delivers, marks;
- `wakeup`: hears of new jobs from other processes.

Delivery is at least once; a handler's `complete` runs in the transaction that marks the job done, so what it writes
happens exactly once.
"""
