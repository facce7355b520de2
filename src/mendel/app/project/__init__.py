"""The commands that work on a project: train, create files, register artefacts, print the schema."""
