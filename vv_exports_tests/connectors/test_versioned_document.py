"""A document of several writers: no change is lost, and no reader sees half of one."""

import threading
from pathlib import Path

import msgspec
import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.connectors.versioned_document import VersionedDocument, packed, pieces, unpacked
from vv_exports.errors import DeliveredDataError, ForbiddenError, TransientError
from vv_exports_tests.foreign_files import changed, put_foreign_files


class Names(msgspec.Struct, frozen=True):
    names: list[str] = []


@pytest.fixture
def storage(tmp_path):
    return LocalConnector("storage", tmp_path, make_root=True)


def document(storage):
    return VersionedDocument(storage, "there", Names, Names)


def with_name(name):
    return lambda before: None if name in before.names else Names([*before.names, name])


class Everything(msgspec.Struct, kw_only=True, rename="camel"):
    first: int = 1
    none_there: dict[str, int] = {}
    many_there: dict[str, list[str]] = {}
    by_number: dict[int, Names] = {}
    last: list[int] = []


class Unset(msgspec.Struct):
    names: dict[str, int] | msgspec.UnsetType = msgspec.UNSET


class Omitted(msgspec.Struct, omit_defaults=True):
    names: dict[str, int] = {}


class Listed(msgspec.Struct, array_like=True):
    names: dict[str, int] = {}


class Tagged(msgspec.Struct, tag=True):
    names: dict[str, int] = {}


class Nothing(msgspec.Struct): ...


@pytest.mark.parametrize("count", [0, 1, 999, 1_000, 1_001, 2_500])
def test_what_is_encoded_a_part_at_a_time_is_what_is_encoded_at_once(count):
    numbers = {f'"{number}\n': number for number in range(count)}
    many = Everything(
        many_there={name: [name] for name in numbers}, by_number={one: Names(["a"]) for one in range(count)}
    )
    others = [kind(numbers) for kind in (Unset, Omitted, Listed, Tagged)]
    for document in (many, *others, Unset(), Nothing(), Names(["a"]), numbers, [numbers], count):
        assert b"".join(pieces(document)) == msgspec.json.encode(document)
        assert unpacked(packed(document), type(document)) == document


def test_no_part_of_a_long_mapping_is_long():
    whole = Everything(many_there={f"{number:06}": ["x" * 50] for number in range(100_000)})
    assert max(map(len, pieces(whole))) < 100_000


def test_a_document_that_nobody_changed_is_empty_and_writes_nothing(storage):
    assert document(storage).read() == Names()
    assert document(storage).update(lambda _: None) == Names()
    assert storage.files("") == []


def test_every_reader_sees_the_newest_version_and_few_are_kept(storage):
    reader = document(storage)
    for number in range(20):
        document(storage).update(with_name(f"{number}"))
        assert reader.read().names[-1] == f"{number}"
    assert len(storage.files("there")) == 3


def test_no_change_of_writers_that_meet_is_lost(storage):
    def write(writer):
        mine = document(storage)
        for number in range(10):
            mine.update(with_name(f"{writer}-{number}"))

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(document(storage).read().names) == sorted(f"{w}-{n}" for w in range(6) for n in range(10))


def test_a_writer_so_slow_that_its_number_was_taken_and_tidied_away_changes_the_newest_version(storage):
    document(storage).update(with_name("first"))
    slow, calls = document(storage), []

    def slowly(before):
        calls.append(before)
        if len(calls) == 1:
            for number in range(8):
                document(storage).update(with_name(f"meanwhile {number}"))
        return with_name("slow")(before)

    slow.update(slowly)
    assert document(storage).read().names == ["first", *(f"meanwhile {number}" for number in range(8)), "slow"]


class KeepsEverything(LocalConnector):
    def delete(self, keys):
        raise ForbiddenError(f"{keys[0]} may not be deleted")


def test_a_change_that_was_made_does_not_fail_where_old_versions_cannot_be_removed(tmp_path, caplog):
    storage = KeepsEverything("storage", tmp_path, make_root=True)
    for number in range(5):
        document(storage).update(with_name(str(number)))
    assert document(storage).read().names == list("01234")
    assert "2 old versions in" in caplog.text
    assert "may not be deleted" in caplog.text
    document(LocalConnector("storage", tmp_path)).update(with_name("5"))
    assert len(storage.files("there")) == 3


def test_a_writer_that_never_gets_its_turn_gives_up(storage, monkeypatch):
    monkeypatch.setattr("vv_exports.connectors.versioned_document._LONGEST_WAIT_SECONDS", 0)
    count = iter(range(1000))

    def too_slow(before):
        document(storage).update(with_name(f"{next(count)}"))
        return with_name("mine")(before)

    with pytest.raises(TransientError, match="other changes were made meanwhile"):
        document(storage).update(too_slow)
    assert "mine" not in document(storage).read().names


def test_what_lies_beside_the_versions_is_left_alone(storage):
    document(storage).update(with_name("first"))
    put = put_foreign_files(Path(storage.uri("there")))
    for number in range(5):
        document(storage).update(with_name(f"{number}"))
    assert document(storage).read().names == ["first", *(f"{number}" for number in range(5))]
    assert changed(put) == []


def test_a_link_among_old_versions_stays_and_fails_nothing(storage):
    document(storage).update(with_name("first"))
    link = Path(storage.uri("there/0000000000.json.zst"))
    link.symlink_to("elsewhere")
    for number in range(5):
        document(storage).update(with_name(f"{number}"))
    assert link.is_symlink()


@pytest.mark.parametrize("content", [b"", b"junk", b"\x28\xb5\x2f\xfd", packed([1, 2])])
def test_a_version_that_is_none_is_named(storage, content):
    document(storage).update(with_name("first"))
    storage.create("there/0000000002.json.zst", content)
    with pytest.raises(DeliveredDataError, match=r"0000000002\.json\.zst is no version of this document.*Remove it"):
        document(storage).read()
    storage.delete(["there/0000000002.json.zst"])
    assert document(storage).read().names == ["first"]


def test_a_reader_is_not_misled_by_numbers_that_a_restored_backup_gives_once_more(storage):
    reader = document(storage)
    document(storage).update(with_name("first"))
    (backup,) = storage.files("there")
    kept = storage.read(backup.key)
    document(storage).update(with_name("lost by the restore"))
    assert reader.read().names == ["first", "lost by the restore"]
    storage.delete([file.key for file in storage.files("there")])
    storage.create(backup.key, kept)
    document(storage).update(with_name("after it"))
    assert reader.read().names == ["first", "after it"]
    assert reader.update(with_name("more")).names == ["first", "after it", "more"]
