"""What people and programs can be told of an automation."""

from typing import Literal

Event = Literal[
    "delivered",
    "failed",
    "recovered",
    "held",
    "paused",
    "resumed",
    "schema_changed",
    "verification_failed",
    "late",
]
"""``delivered``: a delivery was committed. ``failed``: it cannot deliver, or prompt runs began to fail that did not
before. ``held``: prompt runs wait that did not before. ``paused``, ``resumed``: whoever did it. ``schema_changed``: a
delivery changed columns. ``verification_failed``: files were not what was delivered. ``late``: nothing was delivered
within the time that ``expect_every`` says. ``recovered``: what failed, was late or was found damaged is well again."""
