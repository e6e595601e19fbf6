"""JSON Pointers: written and read without loss."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.snapshots.json_pointer import pointer, tokens


@given(st.lists(st.text()))
def test_a_pointer_leads_through_the_names_it_was_made_of(names):
    assert tokens(pointer(*names)) == names


def test_a_slash_and_a_tilde_are_escaped():
    assert pointer("a/b", 0, "~1") == "/a~1b/0/~01"


def test_text_without_a_slash_is_no_pointer():
    with pytest.raises(ValueError, match="'a/b' is not a JSON Pointer"):
        tokens("a/b")
