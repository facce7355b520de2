"""Check the ledger against copies of its checkpoints that are kept in a directory elsewhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mendel.adapters.files import FileAnchors
from mendel.adapters.git import GitAnchors
from mendel.durable import Anchor, Anchors, Checkpoint, Finding, FindingKind, LedgerState, keys_by_id, read_anchor
from mendel.durable.signatures import from_pem
from mendel.errors import Corrupt, InvalidInput, NotFound
from mendel.operations.ledger import LedgerProof
from mendel.values.atomic_files import translated_disk_errors

_GIT = "git:"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnchorCopy:
    """A file of the directory: its anchor, or why it is not one."""

    name: str
    anchor: Anchor | None
    fault: str = ""

    @property
    def size(self) -> int:
        """The number of entries that the anchor confirms; 0 if the file is not an anchor."""
        return 0 if self.anchor is None else self.anchor.size


def anchor_store(place: str) -> Anchors:
    """Give the store of anchors at *place*: a directory, or ``git:`` and the path of a git repository."""
    if place.startswith(_GIT):
        return GitAnchors(Path(place.removeprefix(_GIT)).expanduser())
    return FileAnchors(Path(place).expanduser())


def read_copies(place: str) -> tuple[AnchorCopy, ...]:
    """
    Read every anchor at *place*, as :func:`anchor_store` names it.

    Raises:
        NotFound: There is no anchor.
        StoreUnavailable: The anchors cannot be read.
    """
    copies = tuple(_copy(stored.name, stored.content) for stored in anchor_store(place).all())
    if not copies:
        raise NotFound(
            f"{place} contains no checkpoint.",
            remedy="Name a directory with files *.checkpoint, or a repository with tags mendel-ledger/* as git:PATH.",
        )
    return copies


def read_keys(files: Iterable[Path]) -> dict[str, str]:
    """
    Read public keys in PEM format; gives the PEM texts by file.

    Raises:
        InvalidInput: A file is not an Ed25519 public key.
    """
    found = {}
    for file in files:
        with translated_disk_errors(file, act="read"):
            text = file.read_text(encoding="utf-8", errors="replace")
        if from_pem(text) is None:
            raise InvalidInput(
                f"The file {file} is not an Ed25519 public key in PEM format.",
                remedy="Write the key with: mendel ledger keys",
            )
        found[str(file)] = text
    return found


def check_copies(
    copies: Sequence[AnchorCopy], proof: LedgerProof, keys: Mapping[str, str], *, where: str
) -> Iterator[Finding]:
    """
    Compare *copies* with the states of the ledger in *proof*.

    Args:
        keys: The trusted public keys in PEM format.
        where: The place of the copies, for people.
    """
    publics = tuple(key for key in map(from_pem, keys.values()) if key is not None)
    states = {state.size: state for state in proof.states}
    for copy in copies:
        if (told := _fault(copy, states, publics)) is not None:
            kind, why = told
            yield Finding(
                kind=kind,
                place=f"anchor {where}/{copy.name}",
                message=f"The copied anchor {where}/{copy.name} {why}.",
                sequence=copy.size or None,
            )


def _fault(
    copy: AnchorCopy, states: Mapping[int, LedgerState], publics: tuple[bytes, ...]
) -> tuple[FindingKind, str] | None:
    anchor = copy.anchor
    if anchor is None:
        return FindingKind.ANCHOR_CHANGED, f"cannot be read: {copy.fault}"
    keys = keys_by_id(anchor.origin, publics) if isinstance(anchor, Checkpoint) else keys_by_id("", publics)
    if (fault := anchor.signature_fault(keys)) is not None:
        return (FindingKind.ANCHOR_CHANGED if "invalid" in fault else FindingKind.ANCHOR_UNTRUSTED), fault
    state = states.get(anchor.size)
    if state is None:
        return FindingKind.TAIL_CUT, (
            f"confirms {anchor.size} entries, but the ledger has fewer: entries were cut off, or an older backup was "
            "restored"
        )
    if anchor.confirms(state.hash, base64.b64decode(state.root)) is False:
        return FindingKind.ANCHOR_CONTRADICTED, f"contradicts the ledger: its first {anchor.size} entries are others"
    return None


def _copy(name: str, content: bytes) -> AnchorCopy:
    try:
        return AnchorCopy(name=name, anchor=read_anchor(name, content))
    except Corrupt as error:
        return AnchorCopy(name=name, anchor=None, fault=error.message)
