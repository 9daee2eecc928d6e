"""A comparison as CSV: one row for each scenario and metric, with the names of the fields of its JSON."""

import csv
import io

from analysis.regression import RunComparison


def comparison_csv(comparison: RunComparison) -> str:
    """The table; an empty cell is not known."""
    rows = comparison.record()["answers"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]) if rows else [], lineterminator="\r\n")  # RFC 4180, section 2
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
