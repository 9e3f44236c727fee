"""Files that are whole or not there."""
import os
from pathlib import Path


def write_atomically(path, data):
    """Write a file beside its place and rename it, so that a partial file never looks like a whole one.

    Args:
        path (str | Path): Where; missing folders are made, an existing file is replaced.
        data (bytes | str): The whole content; text is stored as UTF-8.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        with beside.open('wb') as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
