"""Anchors of the ledger as annotated tags of a git repository, which its clones keep too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.adapters.git.repositories import GitPrograms
from mendel.durable import StoredAnchor
from mendel.errors import Conflict, InvalidProject, StoreUnavailable, Unsupported

_PREFIX = "mendel-ledger/"
_FORMAT = "%(refname:lstrip=3)%00%(contents)%00%(contents:signature)%00"
_TAGGER = ("-c", "user.name=Mendel", "-c", "user.email=mendel@localhost")


class GitAnchors:
    """
    Implements :class:`mendel.durable.Anchors`: the message of the tag ``mendel-ledger/NAME`` is the anchor.

    The tags point to the commit that is checked out in *repository*; nothing is pushed.
    """

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._git = GitPrograms()

    @property
    def where(self) -> str:
        return f"git:{self._repository}"

    def all(self) -> tuple[StoredAnchor, ...]:
        return self._tags(f"refs/tags/{_PREFIX}")

    def newest(self) -> StoredAnchor | None:
        found = self._tags("--sort=-refname", "--count=1", f"refs/tags/{_PREFIX}")
        return found[0] if found else None

    def put(self, anchor: StoredAnchor) -> None:
        name = f"{_PREFIX}{anchor.name}"
        if (known := self._tags(f"refs/tags/{name}")) == (anchor,):
            return
        if known:
            raise Conflict(f"The git tag {name} in {self._repository} holds another anchor than the one to store.")
        with self._refusals("written"):
            tag = ("tag", "--annotate", "--no-sign", "--cleanup=verbatim", "--file=-", name)
            self._git.run(self._repository, *_TAGGER, *tag, given=anchor.content)

    def _tags(self, *selected: str) -> tuple[StoredAnchor, ...]:
        with self._refusals("read"):
            told = self._git.run(self._repository, "for-each-ref", f"--format={_FORMAT}", *selected).stdout
        parts = told.split(b"\0")[:-1]
        return tuple(
            StoredAnchor(name=name.decode(errors="replace").strip(), content=message.removesuffix(signature))
            for name, message, signature in zip(parts[::3], parts[1::3], parts[2::3], strict=True)
        )

    @contextmanager
    def _refusals(self, act: str) -> Iterator[None]:
        try:
            yield
        except (InvalidProject, Unsupported) as error:
            raise StoreUnavailable(
                f"The anchors in the git repository {self._repository} cannot be {act}: {error.message}",
                remedy=error.remedy,
            ) from error
