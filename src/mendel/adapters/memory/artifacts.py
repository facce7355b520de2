"""An artefact store that keeps files in a directory and everything else in memory."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mendel.errors import ArtifactNotFound
from mendel.registry import ForeignVersion, Mirror, MirroredAlias, Publication, Published
from mendel.values import ModelName, Stage, VersionUuid

_DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    published: Published
    model: ModelName
    tags: dict[str, str]


class MemoryArtifacts:
    """
    Implements :class:`mendel.registry.ArtifactStore`: files below *root*, everything else in memory.

    The uuid of an artefact is derived from its key, so that tests get the same uuid in every run.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._numbers: dict[ModelName, int] = {}
        self._aliases: dict[str, MirroredAlias] = {}

    @property
    def mlflow_version(self) -> str | None:
        return None

    def check(self) -> None:
        return

    def publish(self, publication: Publication, tree: Path, *, data: Path | None = None) -> Published:
        with self._lock:
            known = self._kept.get(publication.key)
            if known is not None:
                return known.published
            uuid = VersionUuid(f"m-{hashlib.sha256(publication.key.encode()).hexdigest()[:32]}")
            where = self._root / uuid
            shutil.rmtree(where, ignore_errors=True)  # left by an interrupted call
            shutil.copytree(tree, where)
            if data is not None:
                shutil.copytree(data, where / _DATA)
            number = self._numbers.get(publication.model, 0) + 1
            published = Published(key=publication.key, uuid=uuid, number=number, run_id=None)
            tags = {**publication.tags, "mendel.stage": publication.stage.value}
            self._kept[publication.key] = _Kept(published=published, model=publication.model, tags=tags)
            self._numbers[publication.model] = number
            return published

    def find(self, key: str) -> Published | None:
        with self._lock:
            known = self._kept.get(key)
            return None if known is None else known.published

    def discard(self, key: str, *, uuid: VersionUuid | None = None) -> None:
        with self._lock:
            known = self._kept.get(key)
            if known is not None and uuid in {None, known.published.uuid}:
                del self._kept[key]
                shutil.rmtree(self._root / known.published.uuid)

    def tree(self, uuid: VersionUuid) -> Path:
        where = self._root / uuid
        if not where.is_dir():
            raise ArtifactNotFound(f"The artefact of version {uuid} does not exist.")
        return where

    def mirror(self, model: ModelName, state: Mirror) -> Mirror:
        with self._lock:
            for key, kept in list(self._kept.items()):
                stage = state.stages.get(kept.published.number)
                if kept.model == model and stage is not None:
                    self._kept[key] = replace(kept, tags={**kept.tags, "mendel.stage": stage.value})
            self._aliases[model] = MirroredAlias(production=state.production, generation=state.generation)
            return self._mirrored(model, frozenset(state.stages))

    def mirrored(self, model: ModelName, *, known: frozenset[int]) -> Mirror:
        with self._lock:
            return self._mirrored(model, known)

    def aliases(self) -> Mapping[str, MirroredAlias]:
        with self._lock:
            return dict(self._aliases)

    def foreign(self, model: ModelName, *, known: frozenset[int]) -> tuple[ForeignVersion, ...]:
        with self._lock:
            strangers = [
                ForeignVersion(
                    model=model,
                    number=kept.published.number,
                    uuid=kept.published.uuid,
                    source=str(self._root / kept.published.uuid),
                )
                for kept in self._kept.values()
                if kept.model == model and kept.published.number not in known
            ]
        return tuple(sorted(strangers, key=lambda stranger: stranger.number))

    def _mirrored(self, model: ModelName, known: frozenset[int]) -> Mirror:
        alias = self._aliases.get(model, MirroredAlias(production=None, generation=0))
        numbers = {k.published.number: k for k in self._kept.values() if k.model == model}
        return Mirror(
            production=alias.production,
            generation=alias.generation,
            stages={n: Stage(numbers[n].tags["mendel.stage"]) for n in sorted(known & numbers.keys())},
        )
