"""The action text: grammar and parsed form."""
