"""The resumable stream of changes of approvals."""
