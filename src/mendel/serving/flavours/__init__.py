"""Model flavours: recognise, write, describe and load each kind of model, for example scikit-learn estimators."""
