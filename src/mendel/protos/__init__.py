"""
The ``.proto`` files of the gRPC door, and the stubs that ``scripts/make_protos.py`` generates from them.

``open_inference`` is the Open Inference Protocol v2, ``modelops`` the plain face of the same path.
"""
