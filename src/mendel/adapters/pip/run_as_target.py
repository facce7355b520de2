"""
Runs pip as if its interpreter were the one of a base image: ``python -P run_as_target.py TARGET.json ARGUMENT...``.

pip can select wheel tags for another Python, but evaluates markers (``python_version < "3.11"``) for its own
interpreter. This script makes pip evaluate markers for the target environment. The script imports nothing from Mendel.
"""

import json
import sys


def main() -> int:
    """Run pip and return the exit status."""
    from pip._internal.cli.main import main as pip  # noqa: PLC0415 - the parent looks whether pip is there
    from pip._vendor.packaging import markers  # noqa: PLC0415

    markers.default_environment = lambda: json.loads(sys.argv[1])  # a new dict per call: callers change it
    return pip(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
