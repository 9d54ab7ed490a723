"""Side effects of a resolution: postmortem, knowledge, disposition, notification, webhook."""
