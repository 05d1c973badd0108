"""REAL.parquet MADE.parquet → SDMetrics' quality score of the made rows. Runs in SDV's environment."""

import sys
from typing import Any

import pandas as pd
from sdmetrics.reports.single_table import QualityReport


def metadata_of(rows: pd.DataFrame) -> dict[str, Any]:
    """Each column is to be learnt: none is a key, a name or an address."""

    def sdtype(column: pd.Series) -> str:
        if pd.api.types.is_bool_dtype(column):
            return "boolean"
        return "numerical" if pd.api.types.is_numeric_dtype(column) else "categorical"

    return {"columns": {name: {"sdtype": sdtype(rows[name])} for name in rows.columns}}


if __name__ == "__main__":
    real, made = (pd.read_parquet(path) for path in sys.argv[1:3])
    report = QualityReport()
    report.generate(real, made, metadata_of(real), verbose=False)
    print(report.get_score())
