"""`reconpatch lineage`: where a registered model came from, who approved it, how to make it again."""

from typing import Annotated

import typer

from reconpatch.cli.shared_options import Json, write


def lineage(
    model: Annotated[str, typer.Argument(help="MLflow URI: models:/NAME@ALIAS or models:/NAME/VERSION")],
    json_file: Json = None,
) -> None:
    """Print images, code, parameters, environment, weights, metrics and approvals of a registered model."""
    from reconpatch.integrations.mlflow_lineage import trace

    found = trace(model)
    aliases = f" ({', '.join(found.aliases)})" if found.aliases else ""
    typer.echo(f"{found.model}, version {found.version}{aliases}; MLflow run {found.run_id}")
    for room, facts in found.origin.items():
        typer.echo(room)
        for name, value in facts.items():
            typer.echo(f"  {name}: {value}")
    typer.echo("metrics")
    for name, figure in found.metrics.items():
        typer.echo(f"  {name}: {figure:.6g}")
    typer.echo("approvals")
    for event in found.approvals:
        ending = {"FINISHED": "", "FAILED": " [given up]"}.get(event["ending"], " [half done]")
        typer.echo(
            f"  {event['when']} {event['kind']}: {event['from_version']} to {event['to_version']} by "
            f"{event['who']}: {event['why']} (gate: {event['gate']}){ending}"
        )
    if not found.approvals:
        typer.echo("  never champion")
    typer.echo("to make it again")
    if found.problem is not None:
        typer.echo(f"  not exactly: {found.problem}")
    for command in found.commands:
        typer.echo(f"  {command}")
    write(json_file, found.to_dict())
