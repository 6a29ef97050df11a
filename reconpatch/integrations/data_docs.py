"""One run of great-expectations over a table, and its Data Docs as HTML where they are wanted."""

import html
import logging
import threading
from pathlib import Path
from typing import Any

import pandas as pd

from reconpatch.integrations.optional_packages import import_extra

# great-expectations keeps the context in a process-wide registry: one validation at a time (0.2 s each).
_ONE_AT_A_TIME = threading.Lock()
_SITE = "site"
# Animated instructions for writing expectations by hand: 3 MB that no report shows.
_UNUSED = ("glossary_scroller.gif", "iterative-dev-loop.png", "validation_failed_unexpected_values.gif")


def run_suite(table: pd.DataFrame, suite: Any, docs: Path | None = None) -> list[Any]:
    """Validate ``table`` and return great-expectations' result of each expectation.

    What it hands to the Data Docs it shows as HTML, so it sees every text of the table escaped: a file's name
    is no tag. `failing_paths` gives the names back; two texts are equal escaped where they are equal.

    Args:
        table: with a column ``path`` that names a row.
        suite: an ``ExpectationSuite`` that belongs to no context yet.
        docs: folder for the Data Docs (``index.html``); None: none are written.

    Raises:
        ReConPatchError: great_expectations is not installed.
    """
    gx = import_extra("great_expectations", "checking data")
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # It sets itself to INFO, to tell of a site that nobody asked for and that is never written.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    with _ONE_AT_A_TIME:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False)
        asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("images")
        batch = asset.add_batch_definition_whole_dataframe("all")
        suite = context.suites.add(suite)
        checks = context.validation_definitions.add(
            gx.ValidationDefinition(name=suite.name, data=batch, suite=suite)
        )
        actions = [] if docs is None else [_write_docs(gx, context, docs)]
        wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
        checkpoint = context.checkpoints.add(
            gx.Checkpoint(
                name=suite.name, validation_definitions=[checks], actions=actions, result_format=wanted
            )
        )
        (outcome,) = checkpoint.run(batch_parameters={"dataframe": _escaped(table)}).run_results.values()
    if docs is not None:
        for name in _UNUSED:
            (docs / "static" / "images" / name).unlink(missing_ok=True)
    return list(outcome.results)


def failing_paths(result: Any) -> list[str] | None:
    """The paths of the rows that failed an expectation, sorted, each once; None: it is not about rows.

    Args:
        result: one of those that `run_suite` returned.
    """
    rows = result.result.get("unexpected_index_list")
    return None if rows is None else sorted({html.unescape(str(row["path"])) for row in rows})


def _escaped(table: pd.DataFrame) -> pd.DataFrame:
    texts = table.select_dtypes(include=["object", "string"])
    # With its type: that of a column without a value would be guessed anew.
    return table.assign(
        **{
            str(name): pd.Series(list(map(_escape_text, column)), column.index, column.dtype)
            for name, column in texts.items()
        }
    )


def _escape_text(value: Any) -> Any:
    return html.escape(value) if isinstance(value, str) else value


def _write_docs(gx: Any, context: Any, docs: Path) -> Any:
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(docs.resolve()),
        },
    }
    context.add_data_docs_site(site_name=_SITE, site_config=site)
    return gx.checkpoint.UpdateDataDocsAction(name="docs", site_names=[_SITE])
