"""Notifications of people through Apprise: URLs, messages, what each receiver takes of one."""
