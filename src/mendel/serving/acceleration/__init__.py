"""Convert loaded scikit-learn models to ONNX graphs, and prove that the graphs give the models' answers."""
