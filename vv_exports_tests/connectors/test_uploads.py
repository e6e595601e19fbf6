import threading

import pytest

from vv_exports.connectors.uploads import UploadsBehind


def test_one_upload_is_under_way_at_a_time_and_all_are_over_in_the_end():
    under_way, most, done = [], [], []
    guard = threading.Lock()

    def upload(number):
        with guard:
            under_way.append(number)
            most.append(len(under_way))
        with guard:
            under_way.remove(number)
            done.append(number)

    with UploadsBehind() as behind:
        for number in range(20):
            behind.begin(lambda number=number: upload(number))
            assert len(done) >= number, "the one before is over when the next one begins"
    assert done == list(range(20))
    assert max(most) == 1


def test_the_next_file_is_made_while_one_is_uploaded():
    made = threading.Event()
    with UploadsBehind() as behind:
        behind.begin(lambda: made.wait(30))
        made.set()
        behind.wait()


@pytest.mark.parametrize("then", ["begin", "wait", "leave"])
def test_an_upload_that_failed_is_an_error_of_what_comes_next(then):
    def fail():
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"), UploadsBehind() as behind:  # noqa: PT012 - where it comes is the claim
        behind.begin(fail)
        if then == "begin":
            behind.begin(lambda: None)
        elif then == "wait":
            behind.wait()


def test_what_is_under_way_is_over_before_an_error_leaves():
    done, go_on = [], threading.Event()

    def upload():
        go_on.wait(30)
        done.append("over")

    with pytest.raises(ZeroDivisionError), UploadsBehind() as behind:  # noqa: PT012 - what is under way is the claim
        behind.begin(upload)
        threading.Timer(0.05, go_on.set).start()
        raise ZeroDivisionError
    assert done == ["over"]
