"""What a target of notifications must provide."""

from typing import Protocol

from vv_exports.notifications.message import Message


class Target(Protocol):
    """Somebody who is told. Built without touching environment or network; usable from several threads."""

    def send(self, message: Message) -> str:
        """Send a message, once. Returns whereto, for people, without what may be a secret.

        Raises NotificationError where it did not arrive or may not have, CredentialsError where the environment does
        not say whereto. Neither shows an address, a key, or what was answered.
        """
