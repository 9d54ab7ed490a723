"""What stops a benchmark."""


class BenchmarkError(Exception):
    """The benchmark cannot go on, or what it measured means nothing; the text is the reason."""
