"""An authority and certificates for a trial."""
