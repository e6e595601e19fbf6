"""Where an automation delivers, remembered in the pipeline's storage: so that the place that it leaves is told.

Layout: ``automations/<index>/<automation>/places/<version>.json.zst``
"""

import logging
import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime

import msgspec

from vv_exports.connectors.base import Connector
from vv_exports.connectors.versioned_document import VersionedDocument
from vv_exports.delivery.destination import Destination, Left
from vv_exports.delivery.left_places import Removal, left_destinations, remove_left
from vv_exports.delivery.ownership import leave, owner_of
from vv_exports.domain.destinations import overlaps
from vv_exports.domain.names import storage_segment
from vv_exports.errors import DestinationError, VVExportsError

_LOG = logging.getLogger(__name__)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of a connector. ``address`` tells its storage from any other."""

    connector_id: str
    address: str
    subpath: str
    uri: str

    @classmethod
    def of(cls, destination: Destination) -> "Place":
        """A destination's."""
        connector = destination.connector
        return cls(
            connector_id=connector.connector_id,
            address=connector.address,
            subpath=destination.subpath,
            uri=destination.uri,
        )

    def is_at(self, other: "Place") -> bool:
        """Whether both are the same folder, under whatever name of the connector."""
        return (self.address, self.subpath) == (other.address, other.subpath)


class LeftPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place that was left. ``is_told`` says that its owner file knows."""

    place: Place
    left: Left
    is_told: bool = False


class Places(msgspec.Struct, frozen=True, kw_only=True):
    """Where an automation delivered last, and what it has left."""

    at: Place | None = None
    left: tuple[LeftPlace, ...] = ()


class AutomationPlaces:
    """The places of one automation."""

    def __init__(self, storage: Connector, connectors: Mapping[str, Connector], index_id: str, automation: str) -> None:
        self._connectors = connectors
        folder = f"automations/{storage_segment(index_id)}/{storage_segment(automation)}/places"
        self._places = VersionedDocument(storage, folder, Places, Places)
        self._settled: Place | None = None

    def left(self) -> tuple[LeftPlace, ...]:
        """The places that it has left, as far as they were not removed."""
        return self._places.read().left

    def at(self) -> Place | None:
        """Where it delivered last; None where that is not known."""
        return self._places.read().at

    def is_at(self, destination: Destination) -> bool:
        """Whether it has delivered to this place last."""
        at = self.at()
        return at is not None and at.is_at(Place.of(destination))

    def settle(self, destination: Destination, now: datetime) -> None:
        """It delivers at this place, as a delivery or the claim has shown. Where that is another one than before, the
        place before is told, by whatever name its connector has. One that is out of reach is told with a later
        delivery."""
        place = Place.of(destination)
        if place == self._settled:
            return  # the usual case: the storage need not be asked
        try:
            places = self._places.update(lambda places: _moved(places, place, now))
            told = {
                one.place: is_left
                for one in places.left
                if (is_left := _told(one, destination, self._connectors)) is not None
            }
            if told:
                self._places.update(lambda places: _with_told(places, told))
        except VVExportsError as error:  # what is delivered is delivered
            _LOG.warning("where %s delivers is not remembered, until its next delivery: %s", destination.owner, error)
            return
        if all(one.is_told or one.place in told for one in places.left):
            self._settled = place

    def forget(self, uri: str) -> None:
        """A place that was left is removed."""
        self._places.update(
            lambda places: _changed(places, left=tuple(one for one in places.left if one.place.uri != uri))
        )


def _in_use(left: Destination, used: Iterable[Destination], *, is_named: bool) -> str | None:
    """Why a place that may be left is not removed; None where nobody delivers there."""
    here = f"{left.connector.address}/{left.subpath}"
    users = [one for one in used if overlaps(f"{one.connector.address}/{one.subpath}", here)]
    if not users:
        return None
    kept = f"{left.uri} is where an automation of the configuration delivers, so it is not removed"
    owner = owner_of(left)
    if owner is None or any(one.owner == owner for one in users):
        return kept if is_named else f"{kept}: its next delivery says that it is not left any more"
    # Whoever else delivers there is refused, since it is the other's: of theirs there is nothing that could be lost.
    asks = f"vv-exports vacuum {left.connector.connector_id} --abandoned --subpath {shlex.quote(left.subpath)}"
    return None if is_named else f"{kept}; {owner} has left it: `{asks}` removes it"


def _moved(places: Places, place: Place, now: datetime) -> Places | None:
    left = [one for one in places.left if not one.place.is_at(place)]
    if places.at is not None and not places.at.is_at(place):
        left.append(LeftPlace(place=places.at, left=Left(at=now, to=place.uri)))
    return _changed(places, at=place, left=tuple(left))


def _with_told(places: Places, told: Mapping[Place, bool]) -> Places | None:
    """Those of which nothing is left are forgotten."""
    left = (
        msgspec.structs.replace(one, is_told=True) if one.place in told else one
        for one in places.left
        if told.get(one.place, True)
    )
    return _changed(places, left=tuple(left))


def _changed(places: Places, **changes: object) -> Places | None:
    changed = msgspec.structs.replace(places, **changes)
    return changed if changed != places else None


def _told(left: LeftPlace, destination: Destination, connectors: Mapping[str, Connector]) -> bool | None:
    """Tell a place that it was left. True where it is told, False where there is nothing left of it; None where it was
    told before, or cannot be now."""
    if left.is_told:
        return None
    place = left.place
    connector = next((one for one in connectors.values() if one.address == place.address), None)
    if connector is None:
        _LOG.warning(
            "%s was left, and does not say so to its readers: no connector of the configuration leads there", place.uri
        )
        return None
    try:
        return leave(Destination(connector, place.subpath, destination.owner), left.left)
    except VVExportsError as error:
        _LOG.warning("%s was left, and does not say so to its readers yet: %s", place.uri, error)
        return None


def remove_left_places(
    storage: Connector,
    connector: Connector,
    in_use: Iterable[Destination],
    *,
    subpath: str | None = None,
    dry_run: bool = False,
) -> list[Removal]:
    """Remove the collections of a connector that their automations have left, or the one at a subpath. ``in_use`` is
    where the automations of the configuration deliver.

    Raises DestinationError where the subpath is not left, or is in use; of all, one that is in use is left out. Where
    the automation that is to deliver there is not the one that left it, it cannot before the collection is removed,
    which has to be asked for by its subpath.
    """
    used = list(in_use)
    removed = []
    for folder in left_destinations(connector) if subpath is None else [subpath]:
        destination = Destination(connector, folder)
        problem = _in_use(destination, used, is_named=subpath is not None)
        if problem is not None:
            if subpath is not None:
                raise DestinationError(problem)
            _LOG.warning("%s", problem)
            continue
        done = remove_left(destination, dry_run=dry_run)
        if not dry_run and done.owner.automation is not None:
            AutomationPlaces(storage, {}, done.owner.index_id, done.owner.automation).forget(done.uri)
        removed.append(done)
    return removed
