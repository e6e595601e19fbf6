"""How often sensors look: as often as is useful, and no more than one daemon can do for so many of them.

A tick costs Dagster tens of milliseconds of CPU and some forty statements of its database, whatever the sensor does
(``benchmarks/README.md``), so that a daemon ends at about twenty in a second. Where more were asked for, all would come
late, and those that deliver would wait for those that only look.
"""

from math import ceil

TICKS_PER_SECOND = 5
"""Of the sensors of a kind together: those that discover, and those that deliver."""
_DISCOVERY_SECONDS = 30
_DELIVERY_SECONDS = 10


def discovery_interval(indexes: int) -> int:
    """Seconds between two looks at an index, with so many of them."""
    return max(_DISCOVERY_SECONDS, ceil(indexes / TICKS_PER_SECOND))


def delivery_interval(automations: int) -> int:
    """Seconds between two looks at what an automation owes, with so many of them."""
    return max(_DELIVERY_SECONDS, ceil(automations / TICKS_PER_SECOND))
