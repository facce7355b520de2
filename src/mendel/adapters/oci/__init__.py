"""Images by the OCI's specifications: layouts, the builder, registries."""
