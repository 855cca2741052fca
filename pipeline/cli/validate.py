"""The commands ``twinlines validate``: a catalog held against what is known."""

from __future__ import annotations

import typer

from twinlines.pipeline.cli.literature import literature_app

validate_app = typer.Typer(help="A catalog held against what is known from elsewhere.", no_args_is_help=True)
validate_app.add_typer(literature_app)
