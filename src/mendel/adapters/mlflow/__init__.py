"""MLflow as artefact store and exchange format; MLflow is imported when a store is first used."""

from mendel.adapters.mlflow.artifacts import MlflowArtifacts

__all__ = ["MlflowArtifacts"]
