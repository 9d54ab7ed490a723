"""The deployments that the operator's commands know, and the credentials for them."""
