"""
Images in OCI format: image layouts, the image builder, and image registries.

Import from the modules: this package imports nothing, so that light commands start fast.
"""
