"""Programs that PyPI does not have: Prometheus and Alertmanager."""
