"""What a look at a whole collection found, and what was done about it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from vv_exports.delivery.destination import Destination
from vv_exports.delivery.entry import DeliveredFile
from vv_exports.delivery.state import LogState
from vv_exports.delivery.verify import damaged_files

SAMPLE = 20
"""Files that are read again and compared with their hash, at each reconciliation. ``verify`` reads all."""


@dataclass(frozen=True)
class Reconciliation:
    """Run ids. ``missing`` were not delivered, ``changed`` were delivered with another content, ``damaged`` have a file
    too few, too many, cut short, or of another content. ``delivered`` are those of them that are put right now;
    ``problems`` says why others are not. ``verified`` files were read and compared with their hash."""

    prompt_runs: int
    missing: tuple[str, ...]
    changed: tuple[str, ...]
    damaged: tuple[str, ...]
    delivered: tuple[str, ...]
    problems: dict[str, str]
    verified: int


def sample_damage(
    destination: Destination, state: LogState, chance: random.Random
) -> tuple[Sequence[DeliveredFile], frozenset[str]]:
    """Some of the committed files, and the paths of those among them that are not what was delivered."""
    files = state.files
    chosen = files if len(files) <= SAMPLE else chance.sample(files, SAMPLE)
    return chosen, frozenset(file.path for file in damaged_files(destination, chosen))
