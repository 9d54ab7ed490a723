"""The incident service: opens incidents, resolves each one once, keeps what was learnt."""
