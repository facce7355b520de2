"""How a version is trained: called by Mendel's runner, never by the server."""

from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def train(frame, *, target, seed):
    """A fitted pipeline; scaling is part of it, so that servers send raw pixels."""
    network = MLPClassifier(hidden_layer_sizes=(64,), alpha=0.1, max_iter=400, random_state=seed)
    pipeline = make_pipeline(StandardScaler(), network)
    return pipeline.fit(frame.drop(columns=target).to_numpy(), frame[target].to_numpy())
