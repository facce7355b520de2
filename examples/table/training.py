"""How a version is trained: called by Mendel's runner, never by the server."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder


def train(frame, *, target, seed):
    """A fitted pipeline; filling in and encoding are part of it, so that servers send raw rows."""
    numbers = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    categories = OneHotEncoder(handle_unknown="ignore", max_categories=50, sparse_output=False)  # missing is one, too
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (categories, make_column_selector(dtype_exclude="number")),
    )
    trees = HistGradientBoostingClassifier(max_iter=80, max_leaf_nodes=15, random_state=seed)
    return make_pipeline(columns, trees).fit(frame.drop(columns=target), frame[target])
