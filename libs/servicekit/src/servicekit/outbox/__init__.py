"""The transactional outbox: an intent committed with the state change that caused it, delivered until acknowledged.

- `transaction`: the unit of work, with which use cases enqueue;
- `outbox`: the way from a committed transaction to the worker of this process;
- `handler`: the interface of a topic;
- `worker`, `topic_runner`, `batch_delivery`, `throttle`: claim under a lease, deliver, mark, retry with backoff, park (dead-letter);
- `wakeup`: the LISTEN/NOTIFY subscriber for jobs of other processes;
- `jobs`, `open_jobs`, `dead_letters`: jobs as an operator sees them: list; count; re-queue, dismiss;
- `queue`, `sql`, `tables`: the statements, fragments for larger ones, and the table.

Delivery is at least once; a handler's `complete` runs in the transaction that marks the job done, so what it writes
happens exactly once.
"""
