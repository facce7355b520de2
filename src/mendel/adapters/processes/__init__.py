"""
Child processes of Mendel: the workers of a server, and training jobs.

Import from the modules: this package imports nothing, so that a job's process starts fast.
"""
