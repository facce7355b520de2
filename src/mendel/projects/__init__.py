"""Projects: reading ``mlserver.yaml``, release tags and release status, and the files of new projects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.projects.ci_workflows import (
        GITHUB_FILE,
        GITLAB_FILE,
        CiWorkflowInputs,
        ci_workflow,
        github_workflow,
        gitlab_pipeline,
        pip_url,
        registry_address,
    )
    from mendel.projects.code_digests import code_digest, files_below
    from mendel.projects.entities import (
        POLICY_SECTIONS,
        Api,
        Build,
        Classifier,
        Cors,
        DeploymentSection,
        Ecr,
        Endpoints,
        ImageRegistry,
        Observability,
        PredictorSection,
        Project,
        RepositorySection,
        ServerLogger,
        ServerSection,
        chosen_classifier,
        project_path,
        shown_classifiers,
    )
    from mendel.projects.ports import Commit, Git, GitTag, HeadOfFile, TagDetails, WorkTree
    from mendel.projects.project_file import FILE, LEGACY_FILE, find_project_file, load_project
    from mendel.projects.project_scaffold import NewFile, classifier_name, convert_older_format, new_project_files
    from mendel.projects.releases import (
        ImageFiles,
        Release,
        ReleaseState,
        RepositoryState,
        StatusRow,
        TagPlan,
        TagRefused,
        ToolBuild,
        annotation,
        lacking_commits,
        newest_releases,
        plan_tag,
        read_repository_state,
        release_status,
        repository_obstacles,
        untracked_digests,
        unwatched_reason,
    )
    from mendel.projects.repository_names import (
        holds_credentials,
        name_in_origin,
        repository_name,
        shared_url,
        without_credentials,
    )
    from mendel.projects.schema import project_schema, section_schema
    from mendel.projects.tag_trailers import read_trailers, with_trailers
    from mendel.projects.tool_version import EMBEDDED, tool_build
    from mendel.projects.yaml_document import Place, YamlDocument, read_document
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "EMBEDDED",
    "FILE",
    "GITHUB_FILE",
    "GITLAB_FILE",
    "LEGACY_FILE",
    "POLICY_SECTIONS",
    "Api",
    "Build",
    "CiWorkflowInputs",
    "Classifier",
    "Commit",
    "Cors",
    "DeploymentSection",
    "Ecr",
    "Endpoints",
    "Git",
    "GitTag",
    "HeadOfFile",
    "ImageFiles",
    "ImageRegistry",
    "NewFile",
    "Observability",
    "Place",
    "PredictorSection",
    "Project",
    "Release",
    "ReleaseState",
    "RepositorySection",
    "RepositoryState",
    "ServerLogger",
    "ServerSection",
    "StatusRow",
    "TagDetails",
    "TagPlan",
    "TagRefused",
    "ToolBuild",
    "WorkTree",
    "YamlDocument",
    "annotation",
    "chosen_classifier",
    "ci_workflow",
    "classifier_name",
    "code_digest",
    "convert_older_format",
    "files_below",
    "find_project_file",
    "github_workflow",
    "gitlab_pipeline",
    "holds_credentials",
    "lacking_commits",
    "load_project",
    "name_in_origin",
    "new_project_files",
    "newest_releases",
    "pip_url",
    "plan_tag",
    "project_path",
    "project_schema",
    "read_document",
    "read_repository_state",
    "read_trailers",
    "registry_address",
    "release_status",
    "repository_name",
    "repository_obstacles",
    "section_schema",
    "shared_url",
    "shown_classifiers",
    "tool_build",
    "untracked_digests",
    "unwatched_reason",
    "with_trailers",
    "without_credentials",
]
