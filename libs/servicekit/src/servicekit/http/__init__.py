"""HTTP servers with bounds: connections, headers, bodies, time, and the hosts that a request may name."""
