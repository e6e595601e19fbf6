"""A script of statements with what is to be known of it at its head."""

from collections.abc import Iterable, Sequence

from vv_exports.errors import RequestError
from vv_exports.printable import one_line


def script(said: Iterable[str], statements: Sequence[str], *, engine: str, most_bytes: int | None = None) -> str:
    """The script. Raises RequestError for a statement that is longer than an engine takes."""
    for statement in statements:
        if most_bytes is not None and (length := len(statement.encode())) > most_bytes:
            raise RequestError(
                f"{one_line(statement.partition(' as')[0])} is {length:,} bytes long, and {engine} takes "
                f"{most_bytes:,}: it has too many files. Take --view latest, another engine, or vv_exports.reader"
            )
    return "\n\n".join(["\n".join(f"-- {line}" for line in said), *(f"{statement};" for statement in statements)])


def left_out(names_and_places: Iterable[tuple[str, Sequence[str]]], engine: str) -> list[str]:
    """Lines for the head that tell what the views lack."""
    told = [f"  {name}: {place}" for name, places in names_and_places for place in places]
    return [f"Left out, since {engine} cannot read it:", *told] if told else []
