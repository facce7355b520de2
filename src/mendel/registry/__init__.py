"""Models, versions, stages, lineage, snapshots, rollback, over ports."""
