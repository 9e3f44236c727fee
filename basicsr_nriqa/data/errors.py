class DataError(ValueError):
    """A dataset on disk is missing, damaged or not what the options say; the message names the file or key."""
