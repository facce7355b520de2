"""Commands on a project's files: training, scaffolding, registering artefacts, schema."""
