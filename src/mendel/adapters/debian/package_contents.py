"""
Select the files of Debian packages that a base image keeps, and make the files that maintainer scripts would make.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PACKAGES = (
    "base-files",
    "base-passwd",
    "ca-certificates",
    "libgomp1",
    "libstdc++6",
    "netbase",
    "python3",
    "tzdata",
)
"""Debian packages of every base image: Python and the libraries that compiled wheels link to; no shell, no compiler."""

STATUS = "var/lib/dpkg/status.d"
"""Directory with one control stanza per package; vulnerability scanners read it in images without dpkg."""

SHARED_DIRECTORIES = ("tmp", "var/tmp")
"""Directories with mode 1777: every user may write, and may delete only their own files."""

_LEFT_OUT = (
    # files of the build machine
    r"(boot|dev|media|mnt|opt|proc|run|srv|sys|var/(backups|cache|lib/apt|lock|log|run))/.+",
    r"etc/(hostname|mtab|resolv\.conf)",
    # files of tools that a base image lacks: package tools, shells, daemons
    r"etc/(apt|cron\.\w+|debconf\.conf|default|dpkg|fstab|init\.d|kernel|logrotate\.d|rmt|systemd|update-motd\.d)(/.*)?",
    r"var/lib/dpkg/(?!status\.d(/|$)).+",
    r"(usr/)?s?bin/(c_rehash|debconf.*|dpkg.*|mawk|openssl|rmt.*|start-stop-daemon|tar|tarcat|update-.*)",
    r"(usr/)?s?bin/(pdb3.*|py3clean|py3compile|py3versions|pydoc3.*|pygettext3.*)",
    r"(usr/)?lib/(binfmt\.d|dpkg|mime|systemd|valgrind)(/.*)?",
    r"(usr/)?lib/[^/]+/(engines-\d|gconv|krb5|perl|perl-base)(/.*)?",
    r"(usr/)?lib/[^/]+/lib(c_malloc_debug|memusage|pcprofile)\.so",
    r"usr/(games|include|libexec/dpkg)(/.*)?",
    # documentation; licence files are kept, because redistribution requires them
    r"usr/share/doc/(?!([^/]+(/copyright)?)$).+",
    r"usr/share/(applications|apport|base-files|bash-completion|binfmts|bug|debconf|dict|doc-base|dpkg)(/.*)?",
    r"usr/share/(gcc|gdb|info|keyrings|lintian|locale|man|menu|perl5|pixmaps|polkit-1|python3/runtime\.d)(/.*)?",
    # parts of Python that a server does not import
    r"usr/lib/python3[^/]*/(.*/)?(__pycache__|idle_test|test|tests)(/.*)?",
    r"usr/lib/python3\.\d+/(ensurepip|idlelib|lib2to3|pydoc_data|turtledemo)(/.*)?",
    r"usr/lib/python3\.\d+/lib-dynload/_?(ctypes_test|test|xxtest)\w*\..*",
    r".*\.(a|pyc)",
)
_WITHOUT = re.compile("|".join(_LEFT_OUT))
_CERTIFICATES = "usr/share/ca-certificates/mozilla/"
_NSSWITCH = "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"


def is_kept(path: str) -> bool:
    """
    Whether a base image keeps the file *path* (relative to the root, POSIX).

    >>> is_kept("usr/share/doc/libc6/copyright"), is_kept("usr/share/doc/libc6/changelog.gz")
    (True, False)
    """
    return _WITHOUT.fullmatch(path) is None


def files_of_scripts(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """
    Make the files that the packages' maintainer scripts would make; no script runs, because the image has no shell.

    Args:
        contents: Contents by path, for every path that :func:`is_read_by_scripts` accepts.
    """
    certificates = (contents[path].strip() for path in sorted(contents) if path.startswith(_CERTIFICATES))
    return {
        "etc/group": contents.get("usr/share/base-passwd/group.master", b""),
        "etc/nsswitch.conf": _NSSWITCH.encode(),
        "etc/passwd": contents.get("usr/share/base-passwd/passwd.master", b""),
        "etc/ssl/certs/ca-certificates.crt": b"".join(certificate + b"\n" for certificate in certificates),
    }


def is_read_by_scripts(path: str) -> bool:
    """Whether :func:`files_of_scripts` needs the content of *path*."""
    return path.startswith((_CERTIFICATES, "usr/share/base-passwd/", f"{STATUS}/"))


def packages_of(contents: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """Give the name and version of every package, sorted, read from the control stanzas."""
    stanzas = (content.decode(errors="replace") for path, content in contents.items() if path.startswith(f"{STATUS}/"))
    return tuple(sorted((_field(stanza, "Package"), _field(stanza, "Version")) for stanza in stanzas))


def _field(stanza: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*)$", stanza, re.MULTILINE)
    return found[1].strip() if found else ""
