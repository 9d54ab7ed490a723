"""The embedded PostgreSQL: binaries, cluster, server process, identity and socket."""
