"""Make a registered version the champion.

python -m flows.promote --model NAME --version N --why "..."
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from reconpatch.errors import ReConPatchError
from reconpatch.settings import load_settings
from tasks.job import PARAMS, PROJECT
from tasks.promote import Promotion, check_promotion, promote_version


@task(name="promote", cache_policy=NO_CACHE, persist_result=False)
def move_champion(model: str, version: str, why: str, project: Path) -> Promotion:
    """Move the alias and record it."""
    return promote_version(model, version, why, settings=load_settings(project / PARAMS), project=project)


@flow(name="promote", flow_run_name="{model} {version}")
def promote(model: str, version: str, why: str, project: Path = PROJECT) -> Promotion:
    """Make ``version`` of ``model`` the champion.

    Raises:
        ReConPatchError: there is no such version, it is champion already, or no reason is given.
    """
    return move_champion(model, version, why, project)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit status 1 when the champion stays who it was."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.promote", description="Make a version the champion."
    )
    parser.add_argument("--model", required=True, help="registered model, such as reconpatch-demo-brick")
    parser.add_argument("--version", required=True, help="number of the version")
    parser.add_argument("--why", required=True, help="the reason, for those who ask later")
    given = parser.parse_args(arguments)
    request = (given.model, given.version, given.why)
    try:
        # Told in one line here, where Prefect would log the whole way to it twice.
        check_promotion(*request, settings=load_settings(PROJECT / PARAMS), project=PROJECT)
        done = promote(*request)
    except ReConPatchError as error:
        sys.exit(f"promote failed: {error}")
    print(f"{done.model}: version {done.version} is champion, it was {done.previous or 'nobody'}")


if __name__ == "__main__":
    main()
