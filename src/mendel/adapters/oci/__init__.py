"""
Images by the OCI's specifications: layouts, the builder, registries.

Import what is needed from the modules; this package imports nothing, since what only lists or builds starts light.
"""
