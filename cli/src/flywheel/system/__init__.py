"""File locks, processes, log files, and progress on the terminal."""
