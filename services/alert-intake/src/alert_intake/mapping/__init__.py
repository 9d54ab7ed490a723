"""From alerts to incidents: which labels and annotations become what."""
