"""
The whole command line: every command, in the order and under the headings of the help.

A command is named by its module in this package and its function; its module is imported when the command is used or
listed.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mendel.app.cli.groups import Noun, RootGroup, Section, Verb
from mendel.app.cli.output import told_plainly

SECTIONS = (
    Section(
        "Start",
        (
            Verb("demo", "start:demo"),
            Verb("init", "start:init"),
            Verb("up", "start:up"),
            Verb("down", "start:down"),
            Verb("serve", "start:serve"),
            Verb("hub", "start:run_hub"),
            Noun(
                "migrate",
                "Convert files of the older mlserver tool.",
                (Verb("mlserver", "start:migrate_mlserver"),),
            ),
        ),
    ),
    Section(
        "Release",
        (
            Verb("list-classifiers", "release_project:list_classifiers"),
            Verb("schema", "release_project:schema"),
            Verb("lock", "release_lock:lock"),
            Verb("tag", "release_tag:tag"),
            Verb("init-github", "release_project:init_github"),
            Verb("init-gitlab", "release_project:init_gitlab"),
        ),
    ),
    Section(
        "Image",
        (
            Noun(
                "base",
                "Make a base image, or export the pinned one.",
                (Verb("make", "image_base:make"), Verb("export", "image_base:export")),
                alone="make",
            ),
            Verb("build", "image:build"),
            Verb("images", "image:list_images"),
            Verb("run", "image:run"),
            Verb("push", "image:push"),
            Verb("verify", "image:verify"),
            Verb("clean", "image:clean"),
        ),
    ),
    Section(
        "Model",
        (
            Verb("train", "model:train"),
            Verb("register", "model:register"),
            Noun(
                "models",
                "List and show models, versions, history and cards.",
                (
                    Verb("list", "model:list_models"),
                    Verb("show", "model:show_model"),
                    Verb("versions", "model:list_versions"),
                    Verb("history", "time_travel:show_history"),
                    Verb("card", "model:show_card"),
                    Verb("foreign", "deployment:list_foreign"),
                ),
                alone="list",
            ),
            Verb("diff", "time_travel:diff"),
            Verb("approve", "model:approve"),
            Noun(
                "parity",
                "Compare a version's answers with the fitted model's.",
                (Verb("show", "model:show_parity"), Verb("accept", "model:accept_parity")),
            ),
            Verb("probe", "model:probe"),
            Verb("stage", "model:stage"),
            Verb("adopt", "deployment:adopt"),
            Verb("canary", "deployment:canary"),
            Verb("canaries", "deployment:list_canaries"),
            Verb("promote", "model:promote"),
            Noun(
                "promotions",
                "List and cancel planned promotions.",
                (Verb("list", "deployment:list_promotions"), Verb("cancel", "deployment:cancel_promotion")),
                alone="list",
            ),
            Verb("shadow", "deployment:shadow"),
            Verb("fallback", "deployment:fallback"),
            Verb("undeploy", "model:undeploy"),
            Noun(
                "policy",
                "Show or replace the policy of a model.",
                (Verb("show", "model:show_policy"), Verb("set", "model:set_policy")),
            ),
        ),
    ),
    Section(
        "Watch",
        (
            Verb("monitor", "watch:monitor"),
            Verb("health", "performance:health"),
            Verb("rollback-check", "performance:rollback_check"),
            Verb("snapshot", "performance:snapshot"),
            Noun(
                "incidents",
                "List, show, explain, acknowledge and resolve incidents.",
                (
                    Verb("list", "watch:list_incidents"),
                    Verb("show", "watch:show_incident"),
                    Verb("explain", "evidence:explain_incident"),
                    Verb("acknowledge", "watch:acknowledge_incident"),
                    Verb("resolve", "watch:resolve_incident"),
                ),
                alone="list",
                of_id="show",
            ),
            Verb("stats", "watch:stats"),
            Noun("labels", "Import the true outcomes of predictions.", (Verb("import", "watch:import_labels"),)),
        ),
    ),
    Section(
        "Repair",
        (
            Verb("rollback", "repair:rollback"),
            Verb("playbook", "repair:start_playbook"),
            Noun(
                "runs",
                "List, show, approve and decline runs of playbooks.",
                (
                    Verb("list", "repair:list_runs"),
                    Verb("show", "repair:show_run"),
                    Verb("approve", "repair:approve_run"),
                    Verb("decline", "repair:decline_run"),
                ),
                alone="list",
                of_id="show",
            ),
            Noun(
                "healing",
                "Pause, resume and backtest automatic repairs.",
                (
                    Verb("pause", "repair:pause_healing"),
                    Verb("resume", "repair:resume_healing"),
                    Verb("backtest", "evidence:backtest"),
                    Verb("looks", "evidence:list_looks"),
                ),
            ),
        ),
    ),
    Section(
        "Prove",
        (
            Noun(
                "ledger",
                "Show, verify and prove the record of every event.",
                (
                    Verb("show", "ledger:show_ledger"),
                    Verb("verify", "ledger:verify_ledger"),
                    Verb("checkpoint", "ledger:sign_checkpoint"),
                    Verb("receipt", "ledger:show_receipt"),
                    Verb("keys", "ledger:list_ledger_keys"),
                    Verb("rotate-key", "ledger:rotate_ledger_key"),
                ),
            ),
            Noun(
                "signing-key",
                "Make keys that sign images and model directories.",
                (Verb("new", "prove:new_signing_key"),),
            ),
            Noun("sign", "Sign a model directory.", (Verb("model", "prove:sign_model"),)),
            Verb("verify-model", "prove:verify_model"),
            Verb("conformance", "conformance:check_server"),
        ),
    ),
    Section(
        "System",
        (
            Verb("status", "system:status"),
            Verb("version", "system:version"),
            Noun(
                "keys",
                "Make, list, renew and revoke API keys.",
                (
                    Verb("list", "keys:list_keys"),
                    Verb("add", "keys:add_key"),
                    Verb("rotate", "keys:rotate_key"),
                    Verb("revoke", "keys:revoke_key"),
                ),
                alone="list",
            ),
            Noun("config", "Show the settings of this installation.", (Verb("show", "system:show_config"),)),
        ),
    ),
)
FORMER_NAMES = (
    Verb("versions", "model:list_versions"),
    Verb("history", "time_travel:show_history"),
    Verb("card", "model:show_card"),
    Verb("incident", "watch:show_incident"),
    Verb("resolve", "watch:resolve_incident"),
    Verb("approve-run", "repair:approve_run"),
    Verb("decline-run", "repair:decline_run"),
)
_PROGRAMS = {"mendel", "mlserver"}


def command_line() -> click.Group:
    """Build the command line as a click group."""
    return RootGroup(
        SECTIONS, FORMER_NAMES, help="Releases, serves, watches and repairs machine-learning models in production."
    )


def main() -> None:
    """Run the command line."""
    name = Path(sys.argv[0]).name
    with (
        told_plainly(),
        command_line().make_context(name if name in _PROGRAMS else "mendel", sys.argv[1:]) as context,
    ):
        code = context.command.invoke(context)
    raise SystemExit(code)


def program() -> None:
    """Run the command line as a program, which ends after it."""
    try:
        main()
    finally:
        gc.freeze()  # else the collector looks through every imported object when the process ends: 2 s for a hub


def commands() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command and group with the words of its name, including former names."""
    yield from _below(command_line(), ())


def _below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None:
            yield (*words, name), command
        if isinstance(command, click.Group):
            yield from _below(command, (*words, name))
