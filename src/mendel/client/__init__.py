"""The Python client of a hub, which users and the command line call."""
