"""The gRPC side: server, channel, status, error table, paging, identity."""
