"""Files that cannot be read, in the words of who can mend it."""


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Return why a text file cannot be read, without its path and its content."""
    match error:
        case FileNotFoundError():
            return "there is no such file"
        case PermissionError():
            return "permission denied"
        case IsADirectoryError():
            return "it is a folder"
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
        case _:
            return (error.strerror or "it cannot be read").lower()
