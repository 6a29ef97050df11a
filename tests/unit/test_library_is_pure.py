import subprocess
import sys

import pytest

FOREIGN = ("prefect", "mlflow", "dvc", "great_expectations")


@pytest.mark.parametrize(
    "statement",
    [
        "import reconpatch; reconpatch.ReConPatch",
        "import reconpatch.cli, reconpatch.evaluation.evaluate, reconpatch.evaluation.report.html_report",
        "import reconpatch.data.demo, reconpatch.data.manifest",
        "import reconpatch.line.server.app",
        "import reconpatch.integrations.data_checks, reconpatch.integrations.mlflow_uri",
    ],
)
def test_importing_the_library_imports_none_of_the_four_tools(statement, tmp_path):
    code = f"{statement}\nimport sys; print([m for m in {FOREIGN!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "[]"
