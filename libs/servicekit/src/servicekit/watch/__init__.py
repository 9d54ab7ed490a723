"""The resumable stream of changes: snapshots, the feed that all watchers of a process share, and resume tokens."""
