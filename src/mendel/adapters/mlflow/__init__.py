"""MLflow as artefact store and interchange; imported by it only when a store is opened."""

from mendel.adapters.mlflow.artifacts import MlflowArtifacts

__all__ = ["MlflowArtifacts"]
