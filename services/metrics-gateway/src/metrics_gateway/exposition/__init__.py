"""Statistics as Prometheus metric families."""
