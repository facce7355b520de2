"""What goes into an image, and what never does: a table of hostile trees."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import BuildRefused
from mendel.images import select_files, version_files
from mendel.images.excluded_files import secret_by_content
from mendel.projects import load_project
from mendel.values.directory_trees import file_digest

KEY = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA0000\n"


def paths(files):
    return [file.path for file in files]


def test_each_file_is_in_the_part_it_belongs_to(workshop):
    """Modules, project file, requirements and lock are code; what the configuration names is artefacts; no more."""
    chosen = workshop.select(
        {
            "model.py": "import helpers.maths",
            "helpers/__init__.py": "",
            "helpers/maths.py": "",
            "helpers/unused.py": "",
            "training.py": "import prep",
            "prep.py": "",
            "requirements.txt": "numpy",
            "mlserver.lock": "{}",
            "weights/a.bin": b"\0",
            "weights/deep/b.bin": b"\1",
            "order.json": '["x"]',
            "extra/one.csv": "",
            "extra/two.txt": "",
            "README.md": "",
        },
        "predictor: {module: model, class_name: Model, init_kwargs: {w: [weights, [order.json]], n: 3, t: text}}\n"
        "classifier: {name: m}\napi: {feature_order: order.json}\nretraining: {module: training.py}\n"
        "build: {include_files: [extra/*.csv]}\n",
    )
    assert paths(chosen.artifacts) == ["extra/one.csv", "order.json", "weights/a.bin", "weights/deep/b.bin"]
    assert chosen.predictor == ("helpers/__init__.py", "helpers/maths.py", "model.py", "prep.py", "training.py")
    assert chosen.configuration == ("mlserver.lock", "mlserver.yaml", "requirements.txt")
    assert paths(chosen.code) == sorted((*chosen.predictor, *chosen.configuration))
    assert chosen.size_bytes == sum(file.size_bytes for file in (*chosen.artifacts, *chosen.code))
    for file in (*chosen.artifacts, *chosen.code):
        assert file.digest == file_digest(workshop.root / file.path)


def test_code_wins_over_artefacts(workshop):
    """A module that the configuration names too stands with the code only."""
    chosen = workshop.select(
        {"model.py": "import lib", "lib.py": "", "other.py": ""}, "build: {include_files: ['*.py', mlserver.yaml]}"
    )
    assert paths(chosen.artifacts) == ["other.py"]
    assert chosen.predictor == ("lib.py", "model.py")


def test_every_classifier_of_the_file_can_be_read_in_the_image(workshop):
    """The project file is read whole, so the order files of other classifiers come along, and nothing else."""
    chosen = workshop.select(
        {
            "other.py": "",
            "order.json": "[]",
            "big.bin": "",
            "mlserver.yaml": "classifiers:\n  m: {predictor: {module: model, class_name: Model}}\n"
            "  n: {predictor: {module: other, class_name: O, init_kwargs: {w: big.bin}}, "
            "api: {feature_order: order.json}}\n",
        }
    )
    assert paths(chosen.artifacts) == ["order.json"]
    assert chosen.predictor == ("model.py",)
    project = load_project(workshop.root)
    assert (project.root / "mlserver.yaml").is_file()


@pytest.mark.parametrize("module", ["model", "model.py", "./model.py", "pkg.model", "pkg/model.py"])
def test_every_way_to_name_the_module(workshop, module):
    """Bare, dotted and as a path."""
    chosen = workshop.select(
        {"pkg/__init__.py": "", "pkg/model.py": ""},
        f"classifier: {{name: m}}\npredictor: {{module: {module}, class_name: Model}}\n",
    )
    assert "model.py" in chosen.predictor or chosen.predictor == ("pkg/__init__.py", "pkg/model.py")


SECRETS = [
    ".env", ".env.local", ".ENV", "id_rsa", "id_ed25519", "server.pem", "tls.KEY", "me.p12", "me.pfx", ".netrc",
    ".npmrc", ".pypirc", "credentials.json", "service-account-prod.json", "vault.kdbx", ".ssh/config", ".aws/anything",
]  # fmt: skip
CACHES = [
    "__pycache__/x.pyc", "old.pyc", ".mypy_cache/a", ".ipynb_checkpoints/n", ".venv/bin/python", "node_modules/a/b.js",
    ".mendel/mendel.db", ".DS_Store", ".git/config", "mine/pyvenv.cfg",
]  # fmt: skip
NAMED = "predictor: {module: model, class_name: Model, init_kwargs: {d: data}}\nclassifier: {name: m}\n"


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_named_directory_is_refused_unless_excluded(workshop, name):
    """The reason names the file; with exclude_patterns the image is built without it."""
    files = {f"data/{name}": "hush", "data/rows.csv": ""}
    (reason,) = workshop.reasons(files, NAMED)
    assert f"data/{name.split('/', maxsplit=1)[0]}" in reason
    assert "exclude_patterns" in reason
    chosen = workshop.select(files, f"{NAMED}build: {{exclude_patterns: ['{name.split('/', maxsplit=1)[0]}']}}\n")
    assert paths(chosen.artifacts) == ["data/rows.csv"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_a_list_or_glob_names_is_refused(workshop, name):
    """Naming a secret outright, or by a glob over everything, does not get it in either."""
    outright = workshop.reasons({name: "hush"}, f"build: {{include_files: ['{name}']}}")
    glob = workshop.reasons({}, "build: {include_files: ['**']}")
    assert all(any(name.split("/")[0] in reason for reason in reasons) for reasons in (outright, glob))


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_beside_the_project_stays_there(workshop, name):
    """Nothing is copied because it lies in the tree: `.env` was once."""
    chosen = workshop.select({name: "hush"})
    assert paths((*chosen.artifacts, *chosen.code)) == ["mlserver.yaml", "model.py"]


@pytest.mark.parametrize("name", CACHES)
def test_caches_are_left_out_without_a_word(workshop, name):
    """Caches, environments and git's own are neither copied nor complained of, whatever asks for all."""
    chosen = workshop.select(
        {f"data/{name}": "x", "data/rows.csv": "", name: "x"},
        f"{NAMED}build: {{include_files: ['data/**', '**/rows.csv']}}\n",
    )
    assert paths(chosen.artifacts) == ["data/rows.csv"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", KEY),
        ("token.json", '{"id": "AKIAIOSFODNN7EXAMPLE"}'),
        ("k", "PuTTY-User-Key-File-3: ssh"),
        ("c.pem", KEY),
    ],
)
def test_a_secret_is_known_by_its_content(workshop, name, content):
    """Keys under harmless names are refused, and the key itself is not repeated."""
    (reason,) = workshop.reasons({f"data/{name}": content}, NAMED)
    assert f"data/{name}" in reason
    assert "AKIA" not in reason


def test_code_that_holds_a_key_is_refused_and_code_about_keys_is_not(workshop):
    """A key in the predictor's module is found; a module that looks for keys is no key."""
    (reason,) = workshop.reasons({"model.py": f'KEY = """{KEY}"""'})
    assert "model.py" in reason
    workshop.select({"model.py": 'HEAD = "-----BEGIN PRIVATE KEY-----"\n'})


def test_certificates_are_no_secret(workshop):
    """A .pem with nothing but certificates is copied; public keys are too."""
    files = {"data/ca.pem": "-----BEGIN CERTIFICATE-----\nMIIB\n", "data/id_rsa.pub": "ssh-rsa AAAA"}
    assert paths(workshop.select(files, NAMED).artifacts) == ["data/ca.pem", "data/id_rsa.pub"]


@given(st.binary(max_size=200))
def test_no_content_breaks_the_search_for_secrets(content):
    """Any bytes are judged."""
    secret_by_content("x.bin", content)


def test_links_inside_are_followed_by_content(workshop):
    """A link to a file or directory of the project becomes regular files under its own name."""
    workshop.write({"store/v1/w.bin": b"\1\2", "lib/real.py": "x = 1"})
    (workshop.root / "current").symlink_to("store/v1")
    (workshop.root / "tool.py").symlink_to("lib/real.py")
    chosen = workshop.select(
        {"model.py": "import tool"},
        "predictor: {module: model, class_name: Model, init_kwargs: {d: current}}\nclassifier: {name: m}\n",
        tracked=frozenset({"current", "store/v1/w.bin", "tool.py", "lib/real.py", "mlserver.yaml"}),
    )
    assert paths(chosen.artifacts) == ["current/w.bin"]
    assert chosen.artifacts[0].digest == file_digest(workshop.root / "store/v1/w.bin")
    assert not chosen.artifacts[0].source.is_symlink()
    assert "tool.py" in chosen.predictor
    assert chosen.untracked == ("model.py",)
    assert "untracked: model.py" in chosen.hints


HOSTILE_LINKS = {
    "out of the project": "../../outside",
    "absolute": "/etc/hostname",
    "dangling": "nowhere",
    "itself": "link",
    "up into a circle": "..",
    "to a secret": "../.env",
    "into git": None,
}


@pytest.mark.parametrize("case", HOSTILE_LINKS)
def test_hostile_links(workshop, case):
    """Links that leave, dangle, run in circles or lead to a secret are reasons; into a cache they are left out."""
    workshop.write({"data/rows.csv": "", ".env": "hush", ".git/config": "url = https://me:token@host"})
    (workshop.root.parent / "outside").mkdir()
    (workshop.root.parent / "outside" / "f").write_text("")
    (workshop.root / "data" / "link").symlink_to(HOSTILE_LINKS[case] or "../.git/config")
    if case == "into git":
        assert paths(workshop.select({}, NAMED).artifacts) == ["data/rows.csv"]
        return
    reasons = workshop.reasons({}, NAMED)
    assert len(reasons) == 1
    assert "data/link" in reasons[0]


def test_links_that_lead_into_each_other(workshop):
    """Two directories that link to each other end in a reason, not in a walk without end."""
    workshop.write({"data/a/x": "", "b/y": ""})
    (workshop.root / "data" / "a" / "to_b").symlink_to("../../b")
    (workshop.root / "b" / "to_a").symlink_to("../data/a")
    assert any("to_a" in reason for reason in workshop.reasons({}, NAMED))


def test_links_that_multiply_have_an_end(workshop, monkeypatch):
    """Directories that double at each level are cut off at the most files an image may have."""
    monkeypatch.setattr("mendel.images.project_tree.MOST_FILES", 100)
    workshop.write({"data/rows.csv": "", "l0/f": ""})
    for level in range(1, 9):
        (workshop.root / f"l{level}").mkdir()
        for name in ("a", "b"):
            (workshop.root / f"l{level}" / name).symlink_to(f"../l{level - 1}")
    reasons = workshop.reasons({}, NAMED.replace("d: data", "d: l8"))
    assert reasons == (
        (
            "The image would contain more than 100 files; list fewer in build.include_files, or "
            "exclude some in build.exclude_patterns."
        ),
    )


def test_special_files_are_refused_and_never_opened(workshop):
    """A pipe, which would block whoever reads it, and a socket are reasons."""
    workshop.write({"data/rows.csv": ""})
    os.mkfifo(workshop.root / "data" / "pipe")
    os.mkfifo(workshop.root / "data" / "ca.pem")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as made:
        os.chdir(workshop.root / "data")  # socket paths are short
        try:
            made.bind("sock")
        finally:
            os.chdir(here)
    reasons = workshop.reasons({}, NAMED)
    assert [reason.split()[0] for reason in sorted(reasons)] == ["data/ca.pem", "data/pipe", "data/sock"]


@pytest.mark.parametrize("name", [b"caf\xe9.bin", b"a\nb", b"\x1b[2J", "u\u2028v".encode()])
def test_names_that_are_no_text(workshop, name):
    """Names outside of UTF-8 or with control characters are reasons that are safe to print."""
    workshop.write({"data/rows.csv": ""})
    (workshop.root / "data" / os.fsdecode(name)).write_text("")
    (reason,) = workshop.reasons({}, NAMED)
    assert reason.isascii()
    assert reason.isprintable()


@pytest.mark.parametrize("name", ["data/.wh.rows.csv", "data/.wh..wh..opq", "data/.wh.deep/rows.csv"])
def test_names_by_which_layers_take_away_are_refused(workshop, name):
    """A file that would become a whiteout in the image is a reason, unless it is excluded."""
    (reason,) = workshop.reasons({name: "", "data/rows.csv": ""}, NAMED)
    assert ".wh." in reason
    chosen = workshop.select({name: ""}, NAMED + "build: {exclude_patterns: ['.wh.*']}\n")
    assert paths(chosen.artifacts) == ["data/rows.csv"]


@pytest.mark.parametrize("entry", ["src/./data", "src//data", "./src/data/", "src/data/."])
def test_every_way_to_write_an_included_directory(workshop, entry):
    """Files are called by their plain names in the image, however the list writes their directory."""
    chosen = workshop.select(
        {"src/data/rows.csv": "", "model.py": ""},
        f"predictor: {{module: model, class_name: Model}}\nclassifier: {{name: m}}\n"
        f"build: {{include_files: [{entry}]}}\n",
    )
    assert paths(chosen.artifacts) == ["src/data/rows.csv"]


def test_names_that_differ_only_by_case_are_a_hint(workshop):
    """Two files that some disks hold as one are pointed out."""
    chosen = workshop.select({"data/Rows.csv": "", "data/rows.csv": ""}, NAMED)
    assert any("data/Rows.csv and data/rows.csv" in hint for hint in chosen.hints)


@contextmanager
def nobody():
    """Without root's right to read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_cannot_be_read_is_a_reason():
    """Files and directories that the builder may not read are named, all of them."""
    root = Path(tempfile.mkdtemp())  # not below pytest's, which only its owner may enter
    try:
        root.chmod(0o755)
        (root / "mlserver.yaml").write_text(NAMED)
        (root / "model.py").write_text("")
        (root / "data" / "closed").mkdir(parents=True)
        (root / "data" / "rows.csv").write_text("")
        (root / "data" / "rows.csv").chmod(0o000)
        (root / "data" / "closed").chmod(0o000)
        project = load_project(root)
        with nobody(), pytest.raises(BuildRefused) as refused:
            select_files(project, project.classifiers[0], root)
        assert sorted(reason.split()[0] for reason in refused.value.reasons) == ["data/closed", "data/rows.csv"]
    finally:
        (root / "data" / "closed").chmod(0o755)
        shutil.rmtree(root)


def test_every_reason_at_once(workshop):
    """One refusal names all that stands in the way."""
    workshop.write({"data/.env": "", "data/k.pem": "", "helper.py": "def ("})
    (workshop.root / "data" / "gone").symlink_to("nowhere")
    reasons = workshop.reasons(
        {"model.py": "import helper"},
        f"{NAMED}build: {{requirements: ../r.txt, include_files: [nothing/*, '!x'], exclude_patterns: ['']}}\n",
    )
    for part in ("helper.py:1", "data/.env", "data/k.pem", "data/gone", "../r.txt", "nothing/*", "'!x'", "exclude_pat"):
        assert any(part in reason for reason in reasons), part


REFUSED = {
    "no predictor": ({}, NAMED.replace("module: model", "module: nowhere"), "nowhere"),
    "an excluded predictor": ({}, "build: {exclude_patterns: ['*.py']}", "excludes the predictor file model.py"),
    "requirements that are not there": ({}, "build: {requirements: r.txt}", "r.txt"),
    "requirements that are a directory": ({"requirements.txt/x": ""}, "", "is a directory"),
    "a module called mendel": ({"mendel.py": ""}, "", "mendel"),
    "a file of the manifest's name": ({"mendel-manifest.json": ""}, "build: {include_files: ['mendel-*']}", "reserves"),
    "a file where versions stand": ({".version/x": ""}, "build: {include_files: [.version]}", ".version/x"),
    "an absolute pattern of nothing": ({}, "build: {include_files: [/etc/passwd]}", "/etc/passwd"),
    "a path that leaves": ({}, NAMED.replace("d: data", "d: ../project/model.py"), "outside"),
    "the project file excluded": ({}, "build: {exclude_patterns: [mlserver.yaml]}", "mlserver.yaml"),
    "a glob of nothing": ({}, "build: {include_files: ['*.nothing']}", "no file matches"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_become_an_image(workshop, case):
    """Each of these is refused in a sentence that names the cause."""
    files, settings, part = REFUSED[case]
    assert any(part in reason for reason in workshop.reasons(files, settings))


def test_what_may_be_meant_is_a_hint(workshop):
    """Arguments of the predictor that name nothing, something absolute or something excluded do not stop a build."""
    chosen = workshop.select(
        {"skip/w.bin": ""},
        "predictor: {module: model, class_name: Model, init_kwargs: "
        "{a: lost.pkl, b: /etc/hostname, c: skip, d: 'two\\nlines', e: '', f: '.'}}\n"
        "classifier: {name: m}\nbuild: {exclude_patterns: [skip]}\n",
    )
    assert chosen.artifacts == ()
    assert [any(word in hint for hint in chosen.hints) for word in ("lost.pkl", "/etc/hostname", "skip")] == [True] * 3


def test_modes_are_two(workshop):
    """Of a mode only whether the owner may execute is kept."""
    workshop.write({"data/run": "", "data/read": ""})
    (workshop.root / "data" / "run").chmod(0o4711)
    (workshop.root / "data" / "read").chmod(0o666)
    chosen = workshop.select({}, NAMED)
    assert [(file.path, file.executable) for file in chosen.artifacts] == [("data/read", False), ("data/run", True)]


def test_large_files_are_hashed_in_bounded_memory(tmp_path):
    """A sparse file of 256 MiB is selected within 64 MiB of address space on top of what Python takes."""
    (tmp_path / "mlserver.yaml").write_text(NAMED.replace("d: data", "d: big.bin"))
    (tmp_path / "model.py").write_text("")
    with (tmp_path / "big.bin").open("wb") as file:
        file.truncate(256 << 20)
    program = (
        "import resource, sys, pathlib\n"
        "from mendel.images import select_files\nfrom mendel.projects import load_project\n"
        "p = load_project(pathlib.Path(sys.argv[1]))\n"
        "pages = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (pages + (64 << 20),) * 2)\n"
        "print(select_files(p, p.classifiers[0], p.root).artifacts[0].size_bytes)\n"
    )
    out = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(out.stdout) == 256 << 20


def test_a_cache_of_digests_can_stand_in_for_large_files(workshop, make_digest):
    """Files above 1 MiB are hashed by the given function, small ones never are."""
    asked = []

    def hash_file(path):
        asked.append(path.name)
        return make_digest("7")

    chosen = workshop.select({"data/big": b"\0" * ((1 << 20) + 1), "data/small": "x"}, NAMED, hash_file=hash_file)
    assert asked == ["big"]
    assert chosen.artifacts[0].digest == make_digest("7")


def test_spaces_and_other_alphabets(workshop):
    """Paths with spaces, umlauts and emoji are files like others."""
    chosen = workshop.select({"data/größe 1 😀.csv": "", "data/[x]*.csv": ""}, NAMED)
    assert paths(chosen.artifacts) == ["data/[x]*.csv", "data/größe 1 😀.csv"]


def test_files_of_a_registered_version(tmp_path):
    """A version's artefact stands below .version without its data; a link in it is refused."""
    (tmp_path / "data").mkdir()
    (tmp_path / "MLmodel").write_text("flavors: {}")
    (tmp_path / "data" / "training.parquet").write_text("")
    assert paths(version_files(tmp_path)) == [".version/MLmodel"]


@pytest.mark.parametrize(
    ("tracked", "told"),
    [({"link.bin", "store/real.bin"}, ()), ({"link.bin"}, ("link.bin",)), ({"store/real.bin"}, ("link.bin",))],
)
def test_a_linked_file_is_tracked_with_its_link_and_its_content(workshop, tracked, told):
    """Git holds what stands in the image only where it holds both the link and what it leads to."""
    (workshop.root / "link.bin").symlink_to("store/real.bin")
    chosen = workshop.select(
        {"store/real.bin": "x"},
        "build: {include_files: [link.bin]}\n",
        tracked=frozenset({"model.py", "mlserver.yaml", *tracked}),
    )
    assert tuple(name for name in chosen.untracked if name.endswith(".bin")) == told
