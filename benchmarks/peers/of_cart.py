"""Sequential CART as synthpop has it (Nowok et al., Journal of Statistical Software 2016): each column by a tree of those before it, the
values of a leaf drawn again. The reference of what is fast and faithful, and copies."""

from functools import partial

import numpy as np
import pandas as pd
from _measured import Drawn, main
from sklearn.preprocessing import OrdinalEncoder
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor


def learn(leaf: int, rows: pd.DataFrame, seed: int) -> Drawn:
    random = np.random.default_rng(seed)
    numeric = [name for name in rows.columns if pd.api.types.is_numeric_dtype(rows[name].dtype)]
    others = [name for name in rows.columns if name not in numeric]
    encoder = OrdinalEncoder(encoded_missing_value=-1)
    codes = rows.copy()
    if others:
        codes[others] = encoder.fit_transform(rows[others].astype(object))
    codes = codes.astype(float).fillna(-1.0)
    names = list(codes.columns)
    trees = {}
    for at, name in enumerate(names[1:], 1):
        made = DecisionTreeRegressor if name in numeric else DecisionTreeClassifier
        tree = made(min_samples_leaf=leaf, random_state=seed).fit(codes[names[:at]].to_numpy(), codes[name])
        leaves = tree.apply(codes[names[:at]].to_numpy())
        order = np.argsort(leaves, kind="stable")
        starts = np.searchsorted(leaves[order], np.arange(tree.tree_.node_count + 1))
        trees[name] = tree, starts, order

    def draw(count: int) -> pd.DataFrame:
        taken = {names[0]: random.integers(len(rows), size=count)}
        made = np.empty((count, len(names)))
        made[:, 0] = codes[names[0]].to_numpy()[taken[names[0]]]
        for at, name in enumerate(names[1:], 1):
            tree, starts, order = trees[name]
            leaves = tree.apply(made[:, :at])
            size = starts[leaves + 1] - starts[leaves]
            taken[name] = order[starts[leaves] + (random.random(count) * size).astype(int)]
            made[:, at] = codes[name].to_numpy()[taken[name]]
        return pd.DataFrame({name: rows[name].to_numpy()[taken[name]] for name in names}).astype(rows.dtypes)

    return draw


if __name__ == "__main__":
    main({"CART, leaf 5": partial(learn, 5), "CART, leaf 40": partial(learn, 40)})
