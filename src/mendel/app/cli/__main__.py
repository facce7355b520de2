"""`python -m mendel.app.cli` is `mendel`."""

from mendel.app.cli.main import program

program()
