import logging
import threading
from collections import Counter
from itertools import islice

import msgspec
import pytest

from vv_exports.connectors.local import LocalConnector
from vv_exports.domain.exports import ExportStatus
from vv_exports.errors import DeliveredDataError, NotFoundError, RequestError
from vv_exports.exports.records import Records
from vv_exports_tests.exports.records import attempt_of, record_of
from vv_exports_tests.fakes.faulty_connector import Crash, FaultyConnector, crashes
from vv_exports_tests.fakes.memory_store import Memory, MemoryStore


@pytest.fixture(params=["local", "object store"])
def storage(request, tmp_path):
    return LocalConnector("storage", tmp_path, make_root=True) if request.param == "local" else MemoryStore(Memory())


def processing(record):
    return msgspec.structs.replace(record, status=ExportStatus.PROCESSING)


def completed(record):
    return msgspec.structs.replace(record, status=ExportStatus.COMPLETED, completed_at=record.created_at)


def failed(record):
    return msgspec.structs.replace(record, status=ExportStatus.FAILED, error="no")


def test_a_record_is_read_as_it_was_written_and_the_newest_version_holds(storage):
    records = Records(storage)
    first = record_of(1, "pending")
    assert records.begin(first) == first
    assert records.find(first.export_id) == first
    assert records.update(first.export_id, processing).status == "processing"
    done = records.update(first.export_id, completed)
    assert records.find(first.export_id) == done == completed(processing(first))
    assert [one.status for one in records.entries()] == ["completed"]
    assert len(storage.files("exports/records")) == 1, "older versions are removed"


def test_an_export_that_has_begun_does_not_begin_anew(storage):
    records = Records(storage)
    records.begin(record_of(1, "pending"))
    records.update(record_of(1).export_id, failed)
    again = records.begin(record_of(1, "pending", prompt_run_ids=("run_9",)))
    assert (again.status, again.prompt_run_ids) == ("failed", ("run_0", "run_1"))


def test_the_newest_of_many_are_found_by_names_and_only_those_are_read(storage):
    records = Records(storage)
    for number in range(45):
        records.begin(record_of(number))
    counted = FaultyConnector(storage, {})
    counting = Records(counted)
    page = list(islice(counting.read(counting.entries()), 20))
    assert [one.export_id for one in page] == [record_of(number).export_id for number in range(44, 24, -1)]
    assert Counter(counted.log) == {"files": 1, "read": 20}
    counted.log.clear()
    assert counting.of(counting.entry(page[3].export_id)) == page[3]
    assert Counter(counted.log) == {"files": 1, "read": 1}


def test_a_process_that_dies_between_two_writes_leaves_a_record_that_is_right(storage):
    records = Records(storage)
    records.begin(record_of(1, "pending"))
    dying = FaultyConnector(storage, {0: crashes}, only=frozenset({"delete"}))
    with pytest.raises(Crash):
        Records(dying).update(record_of(1).export_id, completed)
    assert len(storage.files("exports/records")) == 2
    assert records.find(record_of(1).export_id).status == "completed"
    assert [one.status for one in records.entries()] == ["completed"]
    records.update(record_of(1).export_id, lambda there: msgspec.structs.replace(there, error="x"))
    assert len(storage.files("exports/records")) == 1


@pytest.mark.parametrize(("ours", "twins"), [(failed, completed), (completed, failed)])
def test_what_one_of_two_writers_completed_is_completed_whatever_the_other_says(storage, ours, twins):
    """Two processes make the same export, and end at the same moment: one of them well."""
    records = Records(storage)
    records.begin(record_of(1, "processing"))

    def just_before(perform):
        records.update(record_of(1).export_id, twins)
        return perform()

    held_up = FaultyConnector(storage, {0: just_before}, only=frozenset({"create"}))
    Records(held_up).update(record_of(1).export_id, ours)
    assert records.find(record_of(1).export_id).status == "completed"
    assert [one.status for one in records.entries()] == ["completed"]


def test_of_many_processes_that_try_an_export_again_one_does(storage):
    export_id = record_of(1).export_id
    Records(storage).begin(record_of(1, "failed"))
    won, together = [], threading.Barrier(8)

    def again(number):
        mine = attempt_of(f"again {number}")

        def change(there):
            if there.is_open:
                return None
            return msgspec.structs.replace(there, status=ExportStatus.PENDING, attempts=(*there.attempts, mine))

        together.wait()
        if Records(storage).update(export_id, change).attempts[-1] == mine:
            won.append(mine)

    threads = [threading.Thread(target=again, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert Records(storage).find(export_id).attempts == (attempt_of("1"), *won)


@pytest.mark.parametrize("ellipsis", ["", "…", "..."])
def test_the_beginning_of_an_id_is_enough_as_long_as_it_is_of_one(storage, ellipsis):
    records = Records(storage)
    alike = [
        record_of(7, export_id=f"exp_07{end}", status=status) for end, status in [("a1", "failed"), ("a2", "completed")]
    ]
    for one in (*alike, record_of(8)):
        records.begin(one)
    assert records.entry(f"exp_08{ellipsis}").export_id == record_of(8).export_id
    assert records.entry(f"exp_07a1{ellipsis}").export_id == "exp_07a1"
    for beginning in ("exp_07", "exp_07a"):
        with pytest.raises(RequestError, match=r"2 exports have an id that begins(?s:.*)exp_07a2 \(completed\)"):
            records.entry(f"{beginning}{ellipsis}")
    with pytest.raises(RequestError, match="3 exports have an id"):
        records.entry(f"exp_{ellipsis}")
    for nobody in ("exp_09", "x", "", "exp_0/../08", "../exp_08"):
        with pytest.raises(NotFoundError, match="does not exist"):
            records.entry(f"{nobody}{ellipsis}")


def test_a_whole_id_is_its_own_though_others_begin_with_it(storage):
    """Of a launch of several partitions each export's id is longer than the launch's."""
    records = Records(storage)
    for export_id in ("exp_07", "exp_07_0123456789ab"):
        records.begin(record_of(7, export_id=export_id))
    assert records.entry("exp_07").export_id == "exp_07"
    assert records.entry("exp_07_0").export_id == "exp_07_0123456789ab"


@pytest.mark.parametrize("content", [b"", b"{", b"null"])
def test_a_record_that_is_damaged_is_named_and_the_others_are_listed(storage, content, caplog):
    records = Records(storage)
    for number in (1, 2):
        records.begin(record_of(number))
    (key,) = (file.key for file in storage.files("exports/records/02"))
    storage.delete([key])
    storage.create(key, content)
    with pytest.raises(
        DeliveredDataError, match=r"does not say what became of export exp_02.*Restore it; or remove it"
    ):
        records.find(record_of(2).export_id)
    with caplog.at_level(logging.WARNING, "vv_exports"):
        assert list(records.read(records.entries())) == [record_of(1)]
    assert f"export {record_of(2).export_id} is left out" in caplog.text


def test_other_files_among_the_records_are_left_alone(storage):
    records = Records(storage)
    records.begin(record_of(1))
    storage.create("exports/records/01/notes.txt", b"mine")
    assert len(records.entries()) == 1
    records.update(record_of(1).export_id, failed)
    assert storage.read("exports/records/01/notes.txt") == b"mine"


def test_a_copy_of_the_records_among_them_is_nobodys(storage):
    """A backup that somebody put beside the records made up exports that could be listed and not shown."""
    records = Records(storage)
    records.begin(record_of(1))
    (key,) = (file.key for file in storage.files("exports/records"))
    storage.create(key.replace("/records/", "/records/backup/"), storage.read(key))
    storage.create(key.replace("/01/", "/01/old/").replace(".0001.", ".0007."), b"{}")
    assert records.find(record_of(1).export_id) == record_of(1)
    storage.delete([key])
    assert records.entries() == []
    with pytest.raises(NotFoundError):
        records.entry(record_of(1).export_id[:5])


@pytest.mark.parametrize(
    "harm",
    [
        lambda of: msgspec.structs.replace(of(2), attempts=()),
        lambda of: of(3),
        lambda of: of(2, "processing"),
    ],
    ids=["without attempts", "of another export", "in another status"],
)
def test_a_record_that_is_not_what_its_name_says_is_damaged(storage, harm, caplog):
    """One without attempts ended every list with a traceback, one of another export was shown in its place."""
    records = Records(storage)
    for number in (1, 2):
        records.begin(record_of(number))
    (key,) = (file.key for file in storage.files("exports/records/02"))
    storage.delete([key])
    storage.create(key, msgspec.json.encode(harm(record_of)))
    with pytest.raises(DeliveredDataError, match=r"does not say what became of export exp_02"):
        records.find(record_of(2).export_id)
    assert list(records.read(records.entries())) == [record_of(1)]


@pytest.mark.parametrize("beginning", ["exp_..", "exp_.._", "exp_a\\b", "exp_a\0b", "exp_//", "/", "..", "*"])
def test_what_begins_no_id_is_not_found(tmp_path, beginning):
    records = Records(LocalConnector("storage", tmp_path, make_root=True))
    records.begin(record_of(1))
    with pytest.raises(NotFoundError, match="does not exist"):
        records.entry(beginning)


def test_a_link_among_the_records_is_nobodys(tmp_path):
    """It ended every list."""
    records = Records(LocalConnector("storage", tmp_path, make_root=True))
    records.begin(record_of(1))
    (path,) = (tmp_path / "exports/records").rglob("*.json")
    path.with_name(path.name.replace(".0001.", ".0002.")).symlink_to(path)
    (tmp_path / "exports/records/02").mkdir()
    (tmp_path / "exports/records/02" / path.name.replace("exp_01", "exp_02")).symlink_to(path)
    assert list(records.read(records.entries())) == [record_of(1)]
    assert records.update(record_of(1).export_id, failed).status == "failed"


@pytest.mark.parametrize("place", ["exports", "exports/records", "exports/records/01"])
def test_a_file_in_the_place_of_the_records_is_no_empty_list(tmp_path, place):
    storage = LocalConnector("storage", tmp_path, make_root=True)
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text("mine")
    with pytest.raises(DeliveredDataError, match=f"{place} is a file.*Move it away"):
        Records(storage).entries()


@pytest.mark.parametrize("place", ["exports", "exports/records"])
def test_a_folder_without_records_is_an_empty_list(tmp_path, place):
    (tmp_path / place).mkdir(parents=True)
    assert Records(LocalConnector("storage", tmp_path, make_root=True)).entries() == []
