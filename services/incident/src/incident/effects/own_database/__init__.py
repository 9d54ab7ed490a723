"""The effects written in the service's own database: postmortem, knowledge entry and disposition."""
