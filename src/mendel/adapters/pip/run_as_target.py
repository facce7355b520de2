"""
Runs pip as if its interpreter were the one of a base image: ``python -P run_as_target.py TARGET.json ARGUMENT...``.

pip takes tags of wheels for another Python, but judges markers (``python_version < "3.11"``) by the interpreter it runs
on. Here it judges them by the environment it is given. Imports nothing of Mendel's.
"""

import json
import sys


def main() -> int:
    """Run pip; its exit status."""
    from pip._internal.cli.main import main as pip  # noqa: PLC0415 - the parent looks whether pip is there
    from pip._vendor.packaging import markers  # noqa: PLC0415

    markers.default_environment = lambda: json.loads(sys.argv[1])  # its callers write to what they get
    return pip(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
