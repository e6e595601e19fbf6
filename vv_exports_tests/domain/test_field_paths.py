"""Paths to fields: what is written is what is meant, and what means nothing is refused with a sentence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vv_exports.domain.field_paths import ITEMS, FieldPath, parse_path, quoted_name

_NAMES = st.text(alphabet=st.sampled_from('ab.[]"\\ \n\x7f\x00é\ud800人'), max_size=5) | st.text(max_size=4)
_PATHS = st.builds(
    lambda first, others: FieldPath((first, *others)), _NAMES, st.lists(_NAMES | st.just(ITEMS), max_size=5)
)


@given(_PATHS)
def test_every_place_has_a_path_that_is_read_back_as_the_same_place(path):
    assert parse_path(str(path)) == path


@given(_NAMES, _NAMES)
def test_two_names_never_look_the_same_in_a_path(one, other):
    assert (quoted_name(one) == quoted_name(other)) == (one == other)


@given(st.text(alphabet='ab.[]"\\ 0', max_size=10))
def test_a_text_is_a_path_or_is_refused_with_a_sentence(text):
    sentence = ""
    try:
        path = parse_path(text)
    except ValueError as error:
        sentence = str(error)
    if sentence:
        assert not text.strip() or repr(text) in sentence
    else:
        assert parse_path(str(path)) == path


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("video_name", ("video_name",)),
        ("metadata.people[].name", ("metadata", "people", ITEMS, "name")),
        ("metadata.tags[]", ("metadata", "tags", ITEMS)),
        ("metadata.matrix[][]", ("metadata", "matrix", ITEMS, ITEMS)),
        ('metadata."a.b".c', ("metadata", "a.b", "c")),
        ('metadata."tags"[]', ("metadata", "tags", ITEMS)),
        ('metadata.""', ("metadata", "")),
        (r'metadata."say \"hi\" \u00e9"', ("metadata", 'say "hi" é')),
        ("metadata.two words", ("metadata", "two words")),
    ],
)
def test_names_items_and_quotes_are_read(text, steps):
    assert parse_path(text).steps == steps


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a path is empty"),
        ("  \t", "a path is empty"),
        (".a", "begins with a dot"),
        ("a.", "ends with a dot"),
        ("a..b", "two dots"),
        ("a.[]", "a dot and a bracket"),
        ("[]", "begins with a bracket"),
        ("a[0]", "write `\\[\\]`, which means all items"),
        ("a[*].b", "write `\\[\\]`, which means all items"),
        ("a[", "a bracket that is not closed"),
        ("a[].b]", "needs a dot"),
        ("a]", "needs a dot"),
        ("a.]", "closing bracket without an opening one"),
        ("a[]b", "needs a dot"),
        ('a."b', "no JSON string"),
        ('a"b"', "needs a dot"),
        ('a."b\\x"', "no JSON string"),
    ],
)
def test_what_means_nothing_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_path(text)


def test_a_path_contains_itself_and_what_is_below_it():
    people = parse_path("metadata.people")
    assert people.contains(people)
    assert people.contains(parse_path("metadata.people[].name"))
    assert not people.contains(parse_path("metadata"))
    assert not people.contains(parse_path("metadata.people2"))
