"""Which rows of a file may be sent to a teacher, by a column. What does not say so plainly is kept back."""

from dataclasses import dataclass, field
from typing import Final

from wizloop.loop.data.records import ImportRefused, NumberedRecords, Record, RowRefused
from wizloop.loop.data.sample_rows import SampleRow
from wizloop.recipes.schema import Recipe
from wizloop.recipes.sections import Data

_COLUMN: Final = "column:"
_YES: Final = frozenset(("yes", "y", "true", "t", "1", "1.0"))


@dataclass
class KeptBack:
    """The numbers of a file's rows that are kept back by a setting such as "share" or "origin=public"."""

    setting: str
    numbers: set[int] = field(default_factory=set)

    @property
    def reason(self) -> str:
        """Why a row is kept back, for a person."""
        return f"kept back from the teachers by {self.setting}"

    def noting(self, records: NumberedRecords, path: str) -> NumberedRecords:
        """Yield the records unchanged, and note which are kept back.

        Raises ImportRefused after the last one if none has the column.
        """
        column, equals, value = self.setting.partition("=")
        wanted = frozenset((_word(value),)) if equals else _YES
        seen = False
        for number, record in records:
            if not isinstance(record, RowRefused):
                given = _column(record, column)
                seen = seen or given is not None
                if given is None or _word(record[given]) not in wanted:
                    self.numbers.add(number)
            yield number, record
        if not seen:
            raise ImportRefused(
                f"{path}: it has no column {column!r}, which says what may be sent to a teacher: name another one, "
                'or send all rows (leave out --send; in a recipe teacher.send = "all")'
            )

    def without(self, first: Record) -> Record:
        """Return a first record without the column that is read here."""
        column = _column(first, self.setting.partition("=")[0])
        return {name: value for name, value in first.items() if name != column}

    def holds(self, row: SampleRow) -> bool:
        """Return whether a row that was read is kept back."""
        return int(row.row_ref.rpartition(":")[2].partition(".")[0]) in self.numbers


def with_send(recipe: Recipe, data: Data) -> Data:
    """Return a file's section with the column of teacher.send, if it has none of its own.

    Rows of dev and test need none: no teacher is asked about them.
    """
    setting = recipe.teacher.send.removeprefix(_COLUMN)
    if data.send is not None or setting == recipe.teacher.send or data.split not in ("pool", "seed"):
        return data
    return data.model_copy(update={"send": setting})


def refuse_column(recipe: Recipe) -> None:
    """Raise ImportRefused if teacher.send names a column, for samples that do not come from a recipe's files."""
    setting = recipe.teacher.send.removeprefix(_COLUMN)
    if setting != recipe.teacher.send:
        raise ImportRefused(
            f'teacher.send = "{recipe.teacher.send}" has no file to read the column from: import the files with '
            f"`wizloop import --send {setting}`, which keeps rows back for good, and leave teacher.send out"
        )


def _column(record: Record, column: str) -> str | None:
    """Return the record's name of a column: as it is written, or with other capitals."""
    if column in record:
        return column
    wanted = column.strip().casefold()
    return next((name for name in record if name.strip().casefold() == wanted), None)


def _word(value: object) -> str:
    return str(value).strip().casefold()
