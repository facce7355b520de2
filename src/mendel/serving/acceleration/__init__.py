"""Convert loaded scikit-learn models to ONNX graphs, and check that the graphs give the same answers as the models."""
