from difflib import get_close_matches


def suggest(name, known):
    """`` (did you mean 'X'?)``, or nothing where no known name is near."""
    close = get_close_matches(str(name), [str(item) for item in known], 1)
    return f" (did you mean '{close[0]}'?)" if close else ''
