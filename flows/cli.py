"""``featlas``: the command line. A command imports heavy modules only when it runs."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli_options import (
    AddressOption,
    CatalogOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    VerboseOption,
    print_version,
)
from flows.completion import dictionaries, pipelines
from flows.extras import require

DEBUG_FLAG = "--debug"

app = typer.Typer(
    help="featlas: a scheduled, resumable platform for catalogues of language-model features.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    epilog="Every command takes --debug, which shows the full traceback of an error.",
)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    """Options of featlas itself."""


@app.command()
def run(
    pipeline: Annotated[
        str,
        typer.Argument(help="Name of a pipeline, or the path of its YAML file", autocompletion=pipelines),
    ],
    catalog: CatalogOption = None,
    stage: Annotated[
        list[str] | None, typer.Option(help="Only this stage and what it needs; may be repeated")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Change a setting: dictionaries.0.k=16"),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Recompute the named stages (all, if none is named)")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Match even if globs of the pipeline give more than 1,000 pairs")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Run a pipeline: reuse what the catalogue holds, compute the rest."""
    require("prefect", "torch")
    from flows.commands.run import run_command
    from flows.terminal import style_of

    style = style_of(quiet, verbose, log_format, as_json)
    sys.exit(run_command(pipeline, catalog, stage or [], set_ or [], force=force, yes=yes, style=style))


@app.command("import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="saelens, sparsify, gemma_scope, ...")],
    path: Annotated[Path, typer.Argument(help="File or folder of the dictionary")],
    model: Annotated[
        list[str] | None,
        typer.Option(help="Id of its model in the pipeline; give it twice for a crosscoder of two models"),
    ] = None,
    hookpoint: Annotated[str, typer.Option(help="READ or READ,WRITTEN; default: what the file says")] = "",
    pipeline: Annotated[str, typer.Option(help="Corpus, models, explainers and scorers to use")] = "demo",
    name: Annotated[str, typer.Option(help="Last part of its alias in the catalogue")] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Override the file: normalisation=dataset_rms"),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH=VALUE", help="Change the pipeline: activations.n_tokens=100000"),
    ] = None,
    accept_unverified: Annotated[
        bool, typer.Option("--accept-unverified", help="Import it even if it does not fit, as unverified")
    ] = False,
    unsafe_allow_pickle: Annotated[
        bool, typer.Option("--unsafe-allow-pickle", help="Open a pickled file, in a separate process")
    ] = False,
    catalog: CatalogOption = None,
    force: Annotated[bool, typer.Option("--force", help="Import it again")] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
    log_format: LogFormatOption = "text",
) -> None:
    """Import a dictionary of another tool after a check that it fits the model; then mine and explain it."""
    require("prefect", "torch")
    from flows.commands.import_ import import_command
    from flows.terminal import style_of

    arguments = {"format": format_, "path": str(path), "pipeline": pipeline, "model": "+".join(model or [])}
    arguments |= {"hookpoint": hookpoint, "name": name}
    changes = {"settings": set_ or [], "overrides": override or []}
    choices = {"accept_unverified": accept_unverified, "unsafe_allow_pickle": unsafe_allow_pickle}
    style = style_of(quiet, verbose, log_format, as_json)
    sys.exit(import_command({**arguments, **changes, **choices}, catalog, force=force, style=style))


@app.command()
def export(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="saelens, sparsify, ... or saebench")],
    dictionary: Annotated[
        str, typer.Argument(help="Alias or id of a dictionary", autocompletion=dictionaries)
    ],
    path: Annotated[Path, typer.Argument(help="New folder to write to")],
    catalog: CatalogOption = None,
) -> None:
    """Write a dictionary, or its metrics (saebench), for another tool."""
    from flows.commands.export import export_command

    export_command(format_, dictionary, path, catalog)


@app.command()
def kinds(
    kind: Annotated[
        str | None, typer.Argument(help="architecture, explainer, scorer, matcher, suite, format ...")
    ] = None,
) -> None:
    """List what a pipeline, an import or an export can name, and what each does."""
    require("torch")
    from flows.commands.kinds import kinds_command

    kinds_command(kind)


@app.command()
def sql(
    query: Annotated[str | None, typer.Argument(help="One SELECT; without it, a shell opens")] = None,
    catalog: CatalogOption = None,
    format_: Annotated[str, typer.Option("--format", help="table, csv, json or parquet")] = "table",
    output: Annotated[Path | None, typer.Option(help="Write to this file instead of the terminal")] = None,
    max_rows: Annotated[int, typer.Option(min=1, max=1_000_000, help="Limit on the number of rows")] = 1_000,
) -> None:
    """Query the catalogue with SQL, read-only and contained."""
    from flows.commands.sql import sql_command

    sql_command(query, catalog, format_, output, max_rows)


@app.command()
def show(
    feature: Annotated[
        str,
        typer.Argument(
            metavar="DICTIONARY#FEATURE", help="Alias or id, # and index", autocompletion=dictionaries
        ),
    ],
    catalog: CatalogOption = None,
) -> None:
    """Show the card of one feature."""
    from flows.commands.show import show_command

    show_command(feature, catalog)


@app.command()
def ui(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the dashboard")] = 8501,
    address: AddressOption = "127.0.0.1",
    catalog: CatalogOption = None,
) -> None:
    """Serve the dashboard of the catalogue."""
    require("streamlit")
    from flows.commands.ui import ui_command

    sys.exit(ui_command(port, address, catalog))


@app.command()
def up(
    catalog: CatalogOption = None,
    server_port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the Prefect server")] = 4200,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the dashboard")] = 8501,
    address: AddressOption = "127.0.0.1",
    pipeline: Annotated[
        list[Path] | None, typer.Option(help="Your pipeline file with a schedule; may be repeated")
    ] = None,
) -> None:
    """Run the whole platform on this machine: server, workers, schedules, dashboard."""
    require("prefect", "streamlit", "torch")
    from flows.commands.up import up_command

    sys.exit(up_command(catalog, server_port, port, pipeline or [], address))


@app.command()
def deploy(
    pipeline: Annotated[list[Path] | None, typer.Argument(help="Your pipeline files with a schedule")] = None,
) -> None:
    """Register pools, limits, automations and deployments with the server at PREFECT_API_URL."""
    require("prefect")
    from flows.commands.deploy import deploy_command

    deploy_command(pipeline or [])


@app.command()
def verify(
    catalog: CatalogOption = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file and check its checksums")] = False,
) -> None:
    """Check schema, keys, orphans and checksums; print one line per fault."""
    from flows.commands.upkeep import verify_command

    sys.exit(verify_command(catalog, deep=deep))


@app.command()
def repair(catalog: CatalogOption = None) -> None:
    """Repair damaged logs of tables, take damaged files out, and name what to run again."""
    from flows.commands.upkeep import repair_command

    sys.exit(repair_command(catalog))


@app.command()
def forget(
    corpus: Annotated[str, typer.Argument(help="Id of a corpus, or its beginning")],
    document: Annotated[str, typer.Argument(help="Id of the document, or its beginning")],
    catalog: CatalogOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it nothing is changed")] = False,
    by: Annotated[str | None, typer.Option(help="Who asks for it [your login name]")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, for the record")] = None,
) -> None:
    """Remove a document from the catalogue: its text, tokens, examples, and labels that quote it."""
    from flows.commands.forget import forget_command

    forget_command(corpus, document, catalog, yes=yes, by=by, reason=reason)


@app.command()
def doctor(catalog: CatalogOption = None) -> None:
    """Report what works on this machine and how to fix the rest."""
    from flows.commands.doctor import doctor_command

    sys.exit(doctor_command(catalog))


def entry() -> None:
    """The installed command: it restarts commands that run models with an allocator that keeps memory low."""
    main(restart=True)


def main(*, restart: bool = False) -> None:
    """The command line: an error that a user can cause is one sentence and exit code 2.

    Every other error is also one line, with exit code 1; `flows.boundary` decides which is which.
    """
    debug = DEBUG_FLAG in sys.argv or bool(os.environ.get("FEATLAS_DEBUG"))
    if debug:
        os.environ["FEATLAS_DEBUG"] = "1"
    sys.argv = [argument for argument in sys.argv if argument != DEBUG_FLAG]
    try:
        if restart and {"run", "import"}.intersection(sys.argv[1:2]):
            from tasks.common.allocator import restart_with_steady_allocator

            restart_with_steady_allocator()
        app()
    except KeyboardInterrupt:
        print("featlas: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if debug:
            raise
        from flows.boundary import tell

        sys.exit(tell(error))


if __name__ == "__main__":
    main()
