"""The embedded PostgreSQL: binaries, cluster, server process, user, socket."""
