"""What every flywheel service is built from: server, channel, database, outbox, settings, logging, telemetry."""
