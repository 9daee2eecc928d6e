"""Results for other programs. One file a format; these tables say which there are, as "module:function"."""

OF_COMPARISON = {
    "markdown": "analysis.export.markdown:markdown",
    "junit": "analysis.export.junit:junit",
    "github": "analysis.export.github:github",
    "csv": "analysis.export.comparison_csv:comparison_csv",
}
"""What a comparison can be written as."""

OF_RUN = {
    "pyperf": "analysis.export.pyperf_json:pyperf_json",
    "github-action-benchmark": "analysis.export.github_benchmark:github_benchmark",
    "bencher": "analysis.export.bencher:bencher",
    "openmetrics": "analysis.export.openmetrics:openmetrics",
    "csv": "analysis.export.tables_csv:run_csv",
}
"""What a result file can be written as."""
