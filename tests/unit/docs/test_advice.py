"""What people are told to do can be done: commands, flags, keys, extras and variables exist."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def known(check_docs):
    """What exists, as the code says."""
    return check_docs.known()


@pytest.fixture
def few(check_docs):
    """A command line with three commands, and one of everything else."""
    return check_docs.Known(
        commands={("up",): {"--port"}, ("policy",): {"--help"}, ("policy", "set"): {"--directory"}},
        verbs={"demo"},
        keys={"serving.workers", "healing.autonomy.rollback", "monitoring.features.*.type"},
        events={"healing.paused"},
        extras={"hub"},
        variables={"MENDEL_URL"},
    )


def test_what_pages_tell_to_type_can_be_typed(check_docs, known):
    """Every command, flag, verb, key, extra and variable that a page shows exists."""
    for path in check_docs.pages():
        assert list(check_docs.unknown_on_page(path.read_text(encoding="utf-8"), known)) == [], path


def test_what_the_source_tells_to_type_can_be_typed(check_docs, known):
    """Every command, extra and variable in any text of the source exists: help, hints, errors, docstrings."""
    texts = list(check_docs.texts())
    assert sum("mendel " in text for _, text in texts) > 50
    assert [(place, fault) for place, text in texts for fault in check_docs.unknown_in_text(text, known)] == []


def test_what_errors_tell_to_do_can_be_done(check_docs, known):
    """Every flag and key that an error or its remedy names exists."""
    messages = list(check_docs.messages())
    assert sum("--" in text for _, text in messages) > 30
    assert sum("serving." in text for _, text in messages) > 3
    assert [(place, fault) for place, text in messages for fault in check_docs.unknown_in_message(text, known)] == []


@pytest.mark.parametrize(
    ("page", "fault"),
    [
        ("`mendel fly`", "there is no command 'mendel fly'"),
        ("$ mendel policy shw x", "there is no command 'mendel policy shw'"),
        ("$ mlserver fly --port 1", "there is no command 'mlserver fly'"),
        ("`mlserver policy shw`", "there is no command 'mlserver policy shw'"),
        ("$ mendel up --prot 1", "'mendel up' has no flag --prot"),
        ("`mendel policy set --port 1`", "'mendel policy set' has no flag --port"),
        ("`make dinner`", "there is no verb 'make dinner'"),
        ("Set `serving.worker`.", "there is no key serving.worker"),
        ("Install `mendel[sign]`.", "there is no extra mendel[sign]"),
        ("Set MENDEL_ULR.", "there is no variable MENDEL_ULR"),
    ],
)
def test_a_false_line_of_a_page_is_found(check_docs, few, page, fault):
    """Nouns are checked to their verb, flags against their command, and both names of the program are."""
    assert list(check_docs.unknown_on_page(page, few)) == [fault]


@pytest.mark.parametrize(
    "page",
    [
        "`mendel up --port 1 | grep --color x`",
        "`healing.autonomy`, `monitoring.features.age.type`, `healing.paused`, `serving.py`",
        "$ git push --tags",
        "Install `mendel[hub]`; `mendel policy` and `mendel policy set` are commands.",
    ],
)
def test_what_others_are_told_is_left_alone(check_docs, few, page):
    """Flags of other programs, prefixes of keys, types of events and names of files are no faults."""
    assert list(check_docs.unknown_on_page(page, few)) == []


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("Set serving.wrokers to 2.", "there is no key serving.wrokers"),
        ("Give it with --prot.", "there is no flag --prot"),
        ("Keep it on a local disk, or use PostgreSQL.", "no setting names another database"),
    ],
)
def test_a_remedy_that_cannot_be_followed_is_found(check_docs, few, message, fault):
    """A key, a flag or a database that nothing reads is a fault of the message."""
    assert list(check_docs.unknown_in_message(message, few)) == [fault]
