"""One option: what it may be, and what it means."""
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from basicsr_nriqa.option_definitions import kinds
from basicsr_nriqa.suggestion import suggest


@dataclass(frozen=True)
class Option:
    """The definition of an option.

    Attributes:
        kind: What it may be, a type annotation (:mod:`~basicsr_nriqa.option_definitions.kinds`).
        meaning (str): In Markdown.
        default (str): What is taken without it, in words or as it is written in YAML; '': nothing, or it is required.
        least, above, most, below (float | None): Ends of the range of numbers.
        example (str): As it is written in YAML, for messages.
        required (bool): Whether it has to be given.
        nullable (bool): Whether null, too, may stand: it is then as good as left out.
        set_by_basicsr (bool): It is in complete options, but not in files.
    """

    kind: Any = object
    meaning: str = ''
    default: str = ''
    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None
    example: str = ''
    required: bool = False
    nullable: bool = True
    set_by_basicsr: bool = False

    def problem(self, value: Any) -> str:
        """What is wrong with a value.

        Args:
            value: As read from YAML.

        Returns:
            str: What was expected and what was given; empty if nothing is wrong.
        """
        if (value is None and self.nullable) or (kinds.fits(value, self.kind) and self._in_range(value)):
            return ''
        return f'expected {self.expected()}, got {value!r}.'

    def expected(self) -> str:
        """What it may be, in words."""
        return kinds.words(self.kind, self._limits()) + (f', such as {self.example}' if self.example else '')

    def _limits(self) -> str:
        if self.least is not None and self.most is not None:
            return f' from {self.least:g} to {self.most:g}'
        ends = [words for words in (self.least is not None and f'{self.least:g} or more',
                                    self.above is not None and f'above {self.above:g}',
                                    self.most is not None and f'at most {self.most:g}',
                                    self.below is not None and f'below {self.below:g}') if words]
        return (' ' if self.least is None else ', ') + ' and '.join(ends) if ends else ''

    def schema(self) -> dict[str, Any]:
        """JSON schema (draft 7) of its values."""
        limits = {'minimum': self.least, 'exclusiveMinimum': self.above, 'maximum': self.most,
                  'exclusiveMaximum': self.below}
        described = {'description': self.description()} if self.description() else {}
        return {**kinds.schema(kinds.optional(self.kind) if self.nullable else self.kind), **described,
                **{name: limit for name, limit in limits.items() if limit is not None}}

    def description(self) -> str:
        """Meaning and default, as an editor shows them."""
        return ' '.join(part for part in (self.meaning, self.default and f'Default: {self.default}.') if part)

    def _in_range(self, value: Any) -> bool:
        return not isinstance(value, (int, float)) or isinstance(value, bool) or (
            (self.least is None or value >= self.least) and (self.above is None or value > self.above)
            and (self.most is None or value <= self.most) and (self.below is None or value < self.below))


def option_problems(options: Mapping[str, Any], definitions: Mapping[str, Option],
                    open_ended: bool = False) -> Iterator[tuple[str, str]]:
    """Compare options with their definitions.

    Args:
        options (Mapping[str, Any]): As given.
        definitions (Mapping[str, Option]): Those that there are.
        open_ended (bool): Whether there may be others, of which nothing is known. Default: False.

    Yields:
        tuple[str, str]: Option and what is wrong with it: it is unknown, or its value cannot be used.
    """
    for name, value in options.items():
        if name in definitions:
            problem = definitions[name].problem(value)
            if problem:
                yield name, problem
        elif not open_ended:
            yield name, f'unknown option{suggest(name, definitions)}.'
