"""Names of fields that readers of tables can hold, side by side in one object.

Some readers do not tell names apart that differ in case alone, and refuse or rename one of them; DuckDB drops a field
without a name, and one with a NUL in it. Names of blanks, dots, quotes, any other characters, and a million of them
are held by DuckDB, Polars, pandas and pyarrow.
"""

from typing import Any

from vv_exports.domain.names import caseless


class FieldNames:
    """The names of one object's fields: the first of those that readers cannot tell apart has a column.

    ``left_out`` says of each name without a column why.
    """

    def __init__(self) -> None:
        self._taken: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    def take(self, name: str) -> bool:
        """Whether this name, which was not asked for before, has a column."""
        reason = None
        if not can_name_a_column(name):
            reason = f"the property name {name!r} cannot be a column's name"
        elif not name:
            reason = "the property name '' is empty, and some readers drop such a column"
        else:
            first = self._taken.setdefault(caseless(name), name)
            if first != name:
                reason = _twins(first, name)
        if reason:
            self.left_out[name] = reason
        return reason is None


def can_name_a_column(name: Any) -> bool:
    """Whether a name is text without control characters that UTF-8 can hold."""
    if not isinstance(name, str) or any(ord(character) < ord(" ") or character == "\x7f" for character in name):
        return False
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _twins(first: str, second: str) -> str:
    differ = (
        "in case alone" if first.casefold() == second.casefold() else "in case or the composition of characters alone"
    )
    return (
        f"{first!r} and {second!r} differ {differ}, and some readers do not tell such names apart: "
        f"{first!r} came first and has the column"
    )
