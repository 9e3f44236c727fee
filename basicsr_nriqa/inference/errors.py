class InferenceError(ValueError):
    """A video, the weights or an option cannot be used; the message names it and says what to do."""
