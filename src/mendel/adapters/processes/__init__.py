"""
Supervised processes: servers' workers and the runner.

Import what is needed from the modules; this package imports nothing, since a runner's child must start light.
"""
