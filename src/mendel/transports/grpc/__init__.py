"""The gRPC server: the services of the Open Inference Protocol v2, ModelOps, health and reflection."""
