"""Artefacts as MLflow logged models, each with one registered version."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from mendel.adapters.mlflow.connection import as_global, connect, probe
from mendel.adapters.mlflow.errors import ABSENT, EXISTS, translated
from mendel.errors import ArtifactNotFound, MendelError, Unsupported
from mendel.registry import ForeignVersion, Mirror, MirroredAlias, Publication, Published
from mendel.values import ModelName, Stage, VersionUuid

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

_EXPERIMENT = "mendel"
_KEY = "mendel.key"
_STAGE = "mendel.stage"
_GENERATION = "mendel.generation"
_ALIAS = "production"
_STAGES = frozenset(Stage)
_DATA = "data"
_LOGGED = "models:/"
_PAGE = 1000  # the most that MLflow gives at once


class MlflowArtifacts:
    """
    Implements :class:`mendel.registry.ArtifactStore`; the uuid of a version is the id of its logged model.

    The first use takes seconds, because it imports MLflow and may create MLflow's database; :meth:`open` does both in
    advance. Models are never loaded.

    Args:
        tracking_uri: ``sqlite:///path`` or a server's URL.
        artifact_root: The directory for the files of a new experiment, accessible to this process.
        cache: A directory that keeps a SQLite file with MLflow's empty tables, from which later stores are copied; None
            makes the tables anew.
    """

    def __init__(self, tracking_uri: str, artifact_root: Path, cache: Path | None = None) -> None:
        self._uri = tracking_uri
        self._root = artifact_root.resolve()
        self._template = None if cache is None else cache / f"mlflow-tables-{self.mlflow_version}.db"
        self._places: dict[VersionUuid, Path] = {}
        self._lock = threading.Lock()
        self._opening = threading.RLock()
        self._connected: MlflowClient | None = None
        self._not_opened: MendelError | None = None
        self._experiment_known: str | None = None

    @property
    def _client(self) -> MlflowClient:
        with self._opening:
            if self._connected is None:
                self._connected = connect(self._uri, self._template)
            return self._connected

    @property
    def _experiment(self) -> str:
        with self._opening:
            if self._experiment_known is None:
                with translated():
                    self._experiment_known = self._experiment_id(_EXPERIMENT, self._root)
            return self._experiment_known

    def open(self) -> None:
        """Import MLflow and create MLflow's database now instead of at the first use; afterwards a cheap query."""
        try:
            self._query()
        except MendelError as error:
            self._not_opened = error
            raise
        self._not_opened = None

    def check(self) -> None:
        """
        Query MLflow; a store that is not open is not opened.

        Instead, the error of the last attempt to open the store is raised, or, before the first attempt, the SQLite
        file is read.
        """
        if self._connected is not None:
            self._query()
        elif self._not_opened is not None:
            raise self._not_opened.with_traceback(None)
        else:
            probe(self._uri)

    def _query(self) -> None:
        with translated():
            self._client.get_experiment(self._experiment)

    @property
    def mlflow_version(self) -> str:
        return metadata.version("mlflow-skinny")

    def publish(self, publication: Publication, tree: Path, *, data: Path | None = None) -> Published:
        """
        Create the logged model, upload files, mark READY, create the version; completed steps of an earlier try are
        skipped.
        """
        with translated():
            logged = self._logged(publication.key) or self._begin(publication)
            if logged.status != "READY":
                self._client.log_model_artifacts(logged.model_id, str(tree))
                if data is not None:
                    self._client.log_model_artifacts(logged.model_id, str(data), _DATA)
                self._client.finalize_logged_model(logged.model_id, "READY")
            version = self._version_of(logged) or self._add_version(publication, logged)
            return _published(publication.key, logged, version)

    def find(self, key: str) -> Published | None:
        with translated():
            logged = self._logged(key)
            version = None if logged is None else self._version_of(logged)
            return None if logged is None or version is None else _published(key, logged, version)

    def discard(self, key: str, *, uuid: VersionUuid | None = None) -> None:
        """Delete the version, the logged model, the run and the files, in that order."""
        with translated():
            for logged in self._all_logged(key):
                if uuid not in {None, logged.model_id}:
                    continue
                version = self._version_of(logged)
                if version is not None:
                    self._client.delete_model_version(version.name, str(version.version))
                self._client.delete_logged_model(logged.model_id)
                if logged.source_run_id is not None:
                    self._client.delete_run(logged.source_run_id)
                shutil.rmtree(_local(logged.artifact_location), ignore_errors=True)

    def tree(self, uuid: VersionUuid) -> Path:
        known = self._places.get(uuid)
        if known is None:
            with translated():
                known = _local(self._client.get_logged_model(uuid).artifact_location)
            self._places[uuid] = known
        if not known.is_dir():
            raise ArtifactNotFound(
                (f"The artefact of version {uuid} is missing from {known}."),
                remedy="Restore the directory from a backup.",
            )
        return known

    def mirror(self, model: ModelName, state: Mirror) -> Mirror:
        """Write the changed stage tags first and the production alias last."""
        with translated():
            for version in self._versions(model):
                stage = state.stages.get(int(version.version))
                if stage is not None and version.tags.get(_STAGE) != stage.value:
                    self._client.set_model_version_tag(model, str(version.version), _STAGE, stage.value)
            self._client.set_registered_model_tag(model, _GENERATION, str(state.generation))
            alias = self._alias(model)
            if state.production is None and alias is not None:
                self._client.delete_registered_model_alias(model, _ALIAS)
            elif state.production is not None and alias != state.production:
                self._client.set_registered_model_alias(model, _ALIAS, str(state.production))
            return self._mirrored(model, known=frozenset(state.stages))

    def mirrored(self, model: ModelName, *, known: frozenset[int]) -> Mirror:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds to import

        with translated():
            try:
                return self._mirrored(model, known=known)
            except MlflowException as absent:
                if absent.error_code not in ABSENT:
                    raise
                return Mirror(production=None, generation=0, stages={})

    def aliases(self) -> Mapping[str, MirroredAlias]:
        found: dict[str, MirroredAlias] = {}
        token = None
        with translated():
            while True:
                page = self._client.search_registered_models(max_results=_PAGE, page_token=token)
                for one in page:
                    version = one.aliases.get(_ALIAS)
                    found[one.name] = MirroredAlias(
                        production=None if version is None else int(version),
                        generation=_generation(one.tags),
                    )
                token = page.token
                if not token:
                    return found

    def foreign(self, model: ModelName, *, known: frozenset[int]) -> tuple[ForeignVersion, ...]:
        """Give the versions that were registered with MLflow directly, and not by Mendel."""
        with translated():
            strangers = [v for v in self._versions(model) if int(v.version) not in known]
        return tuple(_foreign(v) for v in sorted(strangers, key=lambda v: int(v.version)))

    def _experiment_id(self, name: str, root: Path) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        return str(self._client.create_experiment(name, artifact_location=root.as_uri()))

    def _all_logged(self, key: str) -> list[LoggedModel]:
        found = self._client.search_logged_models([self._experiment], filter_string=_by_key(key))
        return sorted(found, key=lambda logged: (logged.creation_timestamp, logged.model_id))

    def _logged(self, key: str) -> LoggedModel | None:
        found = self._all_logged(key)
        return found[0] if found else None

    def _begin(self, publication: Publication) -> LoggedModel:
        tags = {_KEY: _tag(publication.key)}
        return self._client.create_logged_model(
            self._experiment, name=publication.model, source_run_id=self._run(publication), tags=tags
        )

    def _run(self, publication: Publication) -> str:
        begun = self._client.search_runs([self._experiment], _by_key(publication.key), max_results=1)
        if begun:
            return str(begun[0].info.run_id)
        run = self._client.create_run(self._experiment, tags={_KEY: _tag(publication.key)}, run_name=publication.model)
        for name, value in publication.metrics.items():
            self._client.log_metric(run.info.run_id, name, value)
        self._client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _add_version(self, publication: Publication, logged: LoggedModel) -> ModelVersion:
        self._make_model(publication.model)
        with as_global(self._uri):
            return self._client.create_model_version(
                publication.model,
                source=f"{_LOGGED}{logged.model_id}",
                run_id=logged.source_run_id,
                model_id=logged.model_id,
                tags={**publication.tags, _STAGE: publication.stage.value},
                await_creation_for=0,
            )

    def _make_model(self, model: ModelName) -> None:
        from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds to import

        try:
            self._client.get_registered_model(model)
        except MlflowException as absent:
            if absent.error_code not in ABSENT:
                raise
            try:
                self._client.create_registered_model(model)
            except MlflowException as present:
                if present.error_code != EXISTS:
                    raise

    def _version_of(self, logged: LoggedModel) -> ModelVersion | None:
        found = self._client.search_model_versions(f"source_path='{_LOGGED}{logged.model_id}'", max_results=1)
        return found[0] if found else None

    def _versions(self, model: ModelName) -> list[ModelVersion]:
        found: list[ModelVersion] = []
        token = None
        while True:
            page = self._client.search_model_versions(f"name='{model}'", page_token=token)
            found.extend(page)
            token = page.token
            if not token:
                return found

    def _alias(self, model: ModelName) -> int | None:
        version = self._client.get_registered_model(model).aliases.get(_ALIAS)
        return None if version is None else int(version)

    def _mirrored(self, model: ModelName, *, known: frozenset[int]) -> Mirror:
        registered = self._client.get_registered_model(model)
        return Mirror(
            production=self._alias(model),
            generation=_generation(registered.tags),
            stages={
                int(v.version): Stage(v.tags[_STAGE])
                for v in self._versions(model)
                if int(v.version) in known and v.tags.get(_STAGE) in _STAGES
            },
        )


def _tag(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()  # keys may contain characters that MLflow's filter syntax rejects


def _by_key(key: str) -> str:
    return f"tags.`{_KEY}` = '{_tag(key)}'"


def _generation(tags: Mapping[str, str]) -> int:
    text = tags.get(_GENERATION, "")
    return int(text) if text.isascii() and text.isdigit() else 0  # another program may have written anything


def _local(location: str) -> Path:
    url = urlparse(location)
    if url.scheme not in {"", "file"}:
        raise Unsupported(
            f"MLflow's artefact location {location} is not a local path.",
            remedy="Mount the location as a file system, and set MLflow's artefact root to the mounted path.",
        )
    return Path(unquote(url.path))


def _published(key: str, logged: LoggedModel, version: ModelVersion) -> Published:
    return Published(
        key=key, uuid=VersionUuid(logged.model_id), number=int(version.version), run_id=logged.source_run_id
    )


def _foreign(version: ModelVersion) -> ForeignVersion:
    source = version.source or ""
    logged = version.model_id or (source.removeprefix(_LOGGED) if source.startswith(f"{_LOGGED}m-") else None)
    return ForeignVersion(
        model=version.name,
        number=int(version.version),
        uuid=None if logged is None else VersionUuid(logged),
        source=source,
        run_id=version.run_id or None,
    )
