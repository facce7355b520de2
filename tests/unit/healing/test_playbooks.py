"""Playbooks: what is shipped, what users write, and what is refused with its line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mendel.errors import InvalidPolicy
from mendel.healing import REMEDIES, Action, load_playbooks, parse_playbook, shipped_playbooks
from mendel.healing.policy import REPLAY

OWN = """\
name: careful
title: Ask, roll back, watch long
autonomy: rollback
urgent: true
steps:
  - action: roll_back
    requires: approval
    retries: 2
  - action: await_convergence
    timeout: 90s
  - action: escalate
    when: {converged: no, severity: [high, critical]}
"""


def test_every_remedy_has_a_playbook():
    """Each default remedy names a shipped playbook."""
    named = {name for one in REMEDIES.values() for name in (one.at_once, one.in_bake, one.as_bad) if name is not None}
    assert named | {REPLAY} <= set(shipped_playbooks())


def test_shipped_playbooks_are_described():
    """Each shipped playbook has a name, a title and a preview with one line for each step."""
    for name, book in shipped_playbooks().items():
        assert name == book.name
        assert book.title
        assert len(book.preview()) == len(book.steps)


def test_a_users_own(tmp_path):
    """A user's playbook is read beside the shipped ones: durations, approval, bare yes and no, lists of values."""
    (tmp_path / "careful.yaml").write_text(OWN)
    books = load_playbooks(tmp_path)
    assert set(shipped_playbooks()) < set(books)
    back, follow, ask = books["careful"].steps
    assert (back.action, back.requires, back.retries) == (Action.ROLL_BACK, "approval", 2)
    assert follow.timeout == timedelta(seconds=90)
    assert ask.when == {"converged": ("no",), "severity": ("high", "critical")}
    assert ask.applies({"converged": "no", "severity": "high"})
    assert not ask.applies({"converged": "no"})
    assert books["careful"].preview()[0] == "roll_back, after approval"


def test_a_users_own_replaces_a_shipped_one(tmp_path):
    """A user's playbook with a shipped one's name takes its place."""
    (tmp_path / "mine.yaml").write_text(OWN.replace("careful", "model_rollback"))
    assert load_playbooks(tmp_path)["model_rollback"].title == "Ask, roll back, watch long"


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (
            "action: roll_back",
            "action: rol_back",
            "own.yaml:6: action: unknown value 'rol_back'; did you mean 'roll_back'",
        ),
        ("urgent: true", "urgnt: true", "own.yaml:4: playbook: unknown key 'urgnt'; did you mean 'urgent'"),
        ("retries: 2", "retry: 2", "own.yaml:8: step: unknown key 'retry'; did you mean 'retries'"),
        ("converged: no", "convergd: no", "own.yaml:12: when: unknown key 'convergd'; did you mean 'converged'"),
        ("requires: approval", "requires: aproval", "own.yaml:7: requires: unknown value 'aproval'"),
        ("timeout: 90s", "timeout: soon", "'soon' is not a duration"),
        ("autonomy: rollback", "autonomy: roll", "autonomy is 'roll', but must be one of"),
        ("action: escalate", "action: roll_back", "two steps are named 'roll_back'"),
        ("name: careful", "name: [", "own.yaml:"),
        ("title: Ask", "titles: Ask", "did you mean 'title'"),
        ("retries: 2", "retries: many", "own.yaml"),
    ],
)
def test_mistakes_are_named_with_their_line(before, after, words):
    """A mistake is refused with file, line and what was probably meant."""
    with pytest.raises(InvalidPolicy) as caught:
        parse_playbook(OWN.replace(before, after), where="own.yaml")
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "name: a\ntitle: b\nautonomy: rollback\nsteps: []\n", "name: a\n"])
def test_what_is_no_playbook(text):
    """An empty document, a list, or a playbook without steps is refused."""
    with pytest.raises(InvalidPolicy, match=r"own\.yaml"):
        parse_playbook(text, where="own.yaml")
