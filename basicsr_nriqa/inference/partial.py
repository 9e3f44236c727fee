"""The folder beside an output in which it is made, so that a stopped run can go on and only whole results appear."""
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from basicsr_nriqa.files import write_atomically
from basicsr_nriqa.inference.errors import InferenceError
from basicsr_nriqa.inference.writing import VIDEO_FORMATS


def check_output(source: Path, output: Path, overwrite: bool) -> None:
    """Refuse places where an output cannot be put, or would destroy something.

    Args:
        source (Path): The input.
        output (Path): A file with a suffix of a video, else a folder.
        overwrite (bool): Whether an output that is there may be replaced.

    Raises:
        InferenceError: it is inside the input or the other way round, has an unknown suffix, or is there.
    """
    if output.suffix.lower() not in VIDEO_FORMATS and output.suffix and not output.is_dir():
        raise InferenceError(f"{output}: '{output.suffix}' is no kind of video that can be written. Known are "
                             f'{", ".join(VIDEO_FORMATS)}; a folder of frames has a name without a dot.')
    inner, outer = output.resolve(), source.resolve()
    if inner == outer or outer in inner.parents or inner in outer.parents:
        raise InferenceError(f'{output}: the output must be neither the input nor inside it, nor hold it ({source}).')
    if not output.exists():
        return
    if output.is_dir() == is_video(output):
        raise InferenceError(f"{output}: there is a {'folder' if output.is_dir() else 'file'} of this name. "
                             'Choose another.')
    others = [file.name for file in output.iterdir() if file.suffix != '.png'] if output.is_dir() else []
    if others:  # a mistyped name must not cost more than frames
        raise InferenceError(f'{output}: this folder holds more than frames ({others[0]}). Choose another.')
    if not overwrite and not (output.is_dir() and not any(output.iterdir())):
        raise InferenceError(f'{output}: there is an output already. Choose another, or replace it with --overwrite.')


def is_video(output: Path) -> bool:
    """Whether the name is one of a video file."""
    return output.suffix.lower() in VIDEO_FORMATS


class Partial:
    """``OUTPUT.partial``: the frames that are done, and ``run.json`` with what they were made of.

    Use as a context: two runs cannot have it at once.

    Args:
        output (Path): What shall be made.

    Raises:
        InferenceError: it is in use, or it is somebody else's folder.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output.with_name(f'{output.name}.partial')
        self.frames = self.folder / 'frames'
        self._record_path = self.folder / 'run.json'
        self._lock = FileLock(self.folder / 'lock', timeout=0)
        self._finished = False
        self.record: dict[str, Any] = {}

    def __enter__(self) -> 'Partial':
        begun = self._record_path.is_file() or not self.folder.is_dir()
        if not begun and any(file.name != 'lock' for file in self.folder.iterdir()):
            raise InferenceError(f'{self.folder}: this folder is in the way and not of an earlier run. Move it away.')
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise InferenceError(f'{self.output}: another run is making it now. Wait for it, or choose another '
                                 'output.') from None
        except OSError as error:
            raise InferenceError(f'{self.output}: cannot be made there ({error.strerror or error}). Choose another '
                                 'place.') from error
        try:
            self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        # while the lock is held, and never after the end: the folder may be another run's then
        if not self._finished and not self._record_path.is_file():  # nothing was begun
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.release()

    def _read(self) -> None:
        if not self._record_path.is_file():
            return
        try:
            self.record = json.loads(self._record_path.read_text())
            self.record['settings'].items()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InferenceError(f'{self._record_path}: damaged. Move the folder away to start again.') from None

    def surveyed(self, identity: str) -> Sequence[int] | None:
        """Frames, height and width of the input with this identity, or None where they are not known."""
        if self.record.get('settings', {}).get('input') == identity:
            return self.record.get('survey')
        return None

    def begin(self, settings: Mapping[str, Any], survey: Sequence[int], overwrite: bool) -> None:
        """Go on with what is there, or start.

        Args:
            settings (Mapping[str, Any]): All that the frames depend on, plain values; ``input`` is the input's
                identity.
            survey (Sequence[int]): Frames, height and width of the input.
            overwrite (bool): Drop what is there if it was made with other settings.

        Raises:
            InferenceError: it was, and ``overwrite`` is not set; the message says what differs.
        """
        settings = json.loads(json.dumps(settings))  # as they are read back
        before = self.record.get('settings')
        if before is not None and before != settings:
            if not overwrite:
                raise InferenceError(f'{self.folder}: was begun with other settings: {_differences(before, settings)}. '
                                     'Give those to go on, or --overwrite to start again.')
            shutil.rmtree(self.frames, ignore_errors=True)
            before = None
        if before is None:
            self.record = {}
            self.note(settings=settings, survey=survey)
        self.frames.mkdir(exist_ok=True)
        for unfinished in self.frames.glob('.*.part'):
            unfinished.unlink()

    def note(self, **values: Any) -> None:
        """Keep values in ``run.json``.

        Args:
            values (Any): Plain values by their names.
        """
        changed = {**self.record, **values}
        if changed != self.record:
            write_atomically(self._record_path, json.dumps(changed, indent=2) + '\n')
            self.record = changed

    def finish(self, result: Path) -> None:
        """Put a result, the frames' folder or a file in this folder, in the output's place; the folder goes.

        Args:
            result (Path): What is whole now.
        """
        if self.output.exists():
            self.output.rename(self.folder / f'replaced{self.output.suffix}')
        result.rename(self.output)
        shutil.rmtree(self.folder)
        self._finished = True


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    texts = []
    for name in {**before, **now}:
        if before.get(name) == now.get(name):
            continue
        if name in ('input', 'weights', 'flow_weights'):
            texts.append(f"the {name.replace('_', ' ')} changed")
        elif isinstance(now.get(name), dict) and isinstance(before.get(name), dict):
            texts.append(_differences(before[name], now[name]))
        else:
            texts.append(f'{name} was {before.get(name)}, is {now.get(name)}')
    return ', '.join(texts)

