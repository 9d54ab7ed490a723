"""What the operating system gives: locks, processes, log files, the terminal."""
