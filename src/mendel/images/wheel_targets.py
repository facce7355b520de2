"""The wheel tags that a base image supports, and the environment for evaluating its markers."""

from __future__ import annotations

from collections.abc import Iterator

from mendel.images.lockfile import BasePin, Platform

_ALIASES = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_OLDEST = {"x86_64": 5, "aarch64": 17}


def platform_tags(glibc: str, platform: Platform) -> Iterator[str]:
    """
    Give the platform tags of wheels that run with C library version *glibc*, best first.

    >>> list(platform_tags("2.18", Platform.parse("linux/arm64")))
    ['manylinux_2_18_aarch64', 'manylinux_2_17_aarch64', 'manylinux2014_aarch64', 'linux_aarch64']
    """
    major, minor = (int(part) for part in glibc.split(".")[:2])
    for older in range(minor, _OLDEST[platform.machine] - 1, -1):
        yield f"manylinux_{major}_{older}_{platform.machine}"
        if (major, older) in _ALIASES:
            yield f"{_ALIASES[major, older]}_{platform.machine}"
    yield f"linux_{platform.machine}"


def marker_environment(base: BasePin, platform: Platform) -> dict[str, str]:
    """
    Make the environment for evaluating markers on *base*.

    The pin has only the minor Python version, so the first patch release is assumed; an additional backport package
    does no harm.
    """
    full = f"{base.python}.0"
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": platform.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": base.python,
        "sys_platform": "linux",
    }
