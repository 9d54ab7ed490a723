"""The stats as Prometheus metrics: labels, families, the catalogue of all series, the registry of a scrape."""
