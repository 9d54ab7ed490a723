"""What Alertmanager posts: the webhook, version 4."""
