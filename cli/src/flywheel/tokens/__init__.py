"""Bearer tokens for people and jobs without an identity provider: `flywheel token`."""
