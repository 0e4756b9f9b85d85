"""The command line. Data goes to standard output, messages to standard error; exit codes are documented below.

0 done, 1 failed, 2 wrong usage, 3 finished but incomplete, 4 findings present, 5 not found, 6 refused by a lock or
hold, 7 not authorized, 8 waited too long, 10 storage missing, 11 storage locked, 130 interrupted.
"""

import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from botocore.exceptions import BotoCoreError, ClientError

from holdfast import __version__
from holdfast.core.errors import DeniedError, HoldfastError, NotFoundError
from holdfast.wire.model import MODEL_DIRECTORY

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_FINDINGS: Final = 4
EXIT_NOT_FOUND: Final = 5
EXIT_DENIED: Final = 7
EXIT_INTERRUPTED: Final = 130
EXIT_OF_ANSWER: Final = {
    "AccessDeniedException": EXIT_DENIED,
    "ResourceNotFoundException": EXIT_NOT_FOUND,
    "ValidationException": EXIT_USAGE,
}
"""Of codes that a server answers; any other is a failure."""

app = typer.Typer(
    name="holdfast",
    help="Organization-wide backup management that you run yourself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

vault = typer.Typer(help="What is done to vaults past the server, on storage itself.", no_args_is_help=True)
app.add_typer(vault, name="vault")

AsJson = Annotated[bool, typer.Option("--json", help="Print the outcome as one JSON document.")]
EndpointUrl = Annotated[str | None, typer.Option(envvar="AWS_ENDPOINT_URL", help="The server.")]
DataDir = Annotated[Path, typer.Option("--data-dir", envvar="HOLDFAST_DATA_DIR", help="Where everything is kept.")]


@app.command()
def quickstart(
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep everything here; a temporary directory otherwise.")
    ] = None,
    port: Annotated[int, typer.Option(help="The server's port; 0 is any free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the server running at the end.")] = False,
) -> None:
    """Walk the tour: an organization, two policies, real backups, a restore that is compared byte for byte."""
    from holdfast.cli.quickstart import run_tour  # noqa: PLC0415 - a command loads what it needs, so that all start fast

    raise typer.Exit(run_tour(data_dir=data_dir, keep=keep, port=port))


@app.command()
def dev(
    port: Annotated[int, typer.Option(help="The port on loopback; 0 is any free one.")] = 8420,
    data_dir: Annotated[Path | None, typer.Option(help="A directory that this made before, or a new one.")] = None,
    grant: Annotated[
        list[str] | None, typer.Option(help="A directory that accounts may read and restore into.")
    ] = None,
    account_id: Annotated[str, typer.Option(help="The account that may create the organization.")] = "123456789012",
    access_key: Annotated[str, typer.Option(help="The access key id of that account.")] = "testing",
    secret_key: Annotated[str, typer.Option(help="Its secret access key.")] = "testing",  # noqa: S107 - meant to be known
    management_name: Annotated[str, typer.Option(help="The name of that account.")] = "master",
    management_email: Annotated[str, typer.Option(help="Its e-mail address.")] = "master@example.com",
    until_stdin_closes: Annotated[bool, typer.Option("--until-stdin-closes", hidden=True)] = False,
) -> None:
    """Start a development server: the same server, on loopback, with a civil clock that can be moved.

    Prints `ready URL` when it accepts requests. Ctrl-C ends it.
    """
    from holdfast.server.start import DevOptions, run_dev  # noqa: PLC0415 - see quickstart

    options = DevOptions(
        port=port,
        data_dir=data_dir,
        grants=tuple(grant or ()),
        account_id=account_id,
        access_key=access_key,
        secret_key=secret_key,
        management_name=management_name,
        management_email=management_email,
        until_stdin_closes=until_stdin_closes,
    )
    raise typer.Exit(run_dev(options))


@app.command()
def init(
    data_dir: DataDir,
    account_id: Annotated[str | None, typer.Option(help="The management account's id; a new one otherwise.")] = None,
    name: Annotated[str, typer.Option(help="The management account's name.")] = "management",
    email: Annotated[str, typer.Option(help="Its e-mail address.")] = "root@example.com",
    administrator: Annotated[str, typer.Option(help="The first administrator's user name.")] = "admin",
) -> None:
    """Make a data directory: root key, recovery kit, management account, first administrator.

    The recovery key and the administrator's secret are printed once and stored nowhere.
    """
    from holdfast.server.start import run_init  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_init(data_dir, account_id=account_id, name=name, email=email, administrator=administrator))


@app.command("acknowledge-kit")
def acknowledge_kit(
    data_dir: DataDir,
    recovery_key: Annotated[Path, typer.Option(help="A file with the recovery key; - is standard input.")] = Path("-"),
) -> None:
    """Show that the recovery kit is in safe hands: type the recovery key, which is checked and not kept."""
    from holdfast.cli.keys import recovery_key_in  # noqa: PLC0415 - see quickstart
    from holdfast.server.start import run_acknowledge  # noqa: PLC0415 - see quickstart

    if str(recovery_key) == "-" and sys.stdin.isatty():
        print("recovery key, then Enter and Ctrl-D:", file=sys.stderr)
    raise typer.Exit(run_acknowledge(data_dir, recovery_key_in(recovery_key)))


@app.command()
def serve(
    data_dir: DataDir,
    host: Annotated[
        str | None, typer.Option(help="The address to listen on; from the configuration otherwise.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="The port; from the configuration otherwise.")] = None,
) -> None:
    """Start the server: API, scheduler and movers, on the data directory that `holdfast init` made."""
    from holdfast.server.start import run_serve  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_serve(data_dir, host=host, port=port))


audit = typer.Typer(name="audit", help="The audit trail.", no_args_is_help=True)
app.add_typer(audit)


@audit.command("search")
def audit_search(
    account: Annotated[str | None, typer.Option(help="In this account; otherwise in all that you may see.")] = None,
    unit: Annotated[str | None, typer.Option(help="In accounts of this unit or below it, as of the time.")] = None,
    region: Annotated[str | None, typer.Option(help="In this region.")] = None,
    event: Annotated[str | None, typer.Option(help="This operation or event, such as DeleteRecoveryPoint.")] = None,
    resource: Annotated[str | None, typer.Option(help="Whose parameters name this, such as an ARN.")] = None,
    principal: Annotated[str | None, typer.Option(help="By this principal: an ARN, or its last part.")] = None,
    since: Annotated[str | None, typer.Option(help="At this instant or later (ISO 8601, UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="At this instant or earlier (ISO 8601, UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Find who did what, in all accounts that you may see, newest first.

    The keys are those of the AWS CLI: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a session.
    """
    from holdfast.cli.audit import run_search  # noqa: PLC0415 - see quickstart

    asked = {
        "AccountId": account,
        "UnitId": unit,
        "Region": region,
        "EventName": event,
        "ResourceName": resource,
        "Principal": principal,
        "StartTime": since,
        "EndTime": until,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    raise typer.Exit(run_search(given, limit=limit, as_json=as_json, endpoint_url=endpoint_url))


@audit.command("verify")
def audit_verify(data_dir: DataDir) -> None:
    """Check that no entry of the audit trail was changed, dropped, reordered or cut off.

    Exit code 4 says that something was; what no block covers yet is told, for nothing protects it.
    """
    from holdfast.server.audit import verify_trail  # noqa: PLC0415 - see quickstart

    verified = verify_trail(data_dir)
    checked = verified.checked
    print(f"trail key {verified.public_key}")
    print(f"{checked.blocks} blocks, {checked.entries} entries sealed, {checked.unsealed} that no block covers yet")
    for finding in checked.findings:
        print(finding)
    raise typer.Exit(0 if checked.is_whole else EXIT_FINDINGS)


@app.command()
def rebuild(
    data_dir: DataDir,
    storage: Annotated[
        str | None, typer.Option(help="For a new data directory: the storage that the vaults lie in.")
    ] = None,
    root_key: Annotated[
        Path | None, typer.Option(help="For a new data directory: a file with the root key of the vaults.")
    ] = None,
    recovery_key: Annotated[
        Path | None, typer.Option(help="Where the root key is lost: a file with the recovery key, or - for stdin.")
    ] = None,
    administrator_of: Annotated[
        str | None, typer.Option(help="Make a first administrator in this account, and print the key.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring vaults, keys, recovery points, locks and holds back from storage, with the server stopped.

    Keys and signed records are verified, and that every snapshot is there; what is not as it was written is named, and
    the exit code is 4 then. Stored bytes are not read: `restic check --read-data` does that.
    """
    from holdfast.cli.rebuild import Options, run_rebuild  # noqa: PLC0415 - see quickstart

    options = Options(
        data_dir=data_dir,
        storage=storage,
        root_key=root_key,
        recovery_key=recovery_key,
        administrator_of=administrator_of,
        as_json=as_json,
    )
    raise typer.Exit(run_rebuild(options))


@app.command()
def jobs(
    job_id: Annotated[str | None, typer.Argument(help="One job, of any kind; exit code 5 if none is in view.")] = None,
    account: Annotated[str | None, typer.Option(help="Of this account; otherwise of all that you may see.")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Of accounts in this unit or below it, as of the job's time.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="backup, copy or restore; may be given again.")] = None,
    state: Annotated[list[str] | None, typer.Option(help="Such as failed; may be given again.")] = None,
    region: Annotated[list[str] | None, typer.Option(help="In this region; may be given again.")] = None,
    resource_type: Annotated[str | None, typer.Option("--type", help="Of this type of resource, such as EFS.")] = None,
    resource: Annotated[str | None, typer.Option(help="Of the resource with this ARN.")] = None,
    plan: Annotated[str | None, typer.Option(help="Made by a plan of this name.")] = None,
    policy: Annotated[str | None, typer.Option(help="Made by plans that this backup policy has a part in.")] = None,
    vault_name: Annotated[str | None, typer.Option("--vault", help="With a vault of this name.")] = None,
    category: Annotated[str | None, typer.Option(help="With this message category, such as access_denied.")] = None,
    message: Annotated[str | None, typer.Option(help="Whose message contains this text.")] = None,
    since: Annotated[str | None, typer.Option(help="Created at this instant or later (ISO 8601, UTC).")] = None,
    until: Annotated[str | None, typer.Option(help="Created before this instant (ISO 8601, UTC).")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many jobs at most.")] = 50,
    as_json: AsJson = False,
    as_lines: Annotated[bool, typer.Option("--jsonl", help="Print one JSON document for each job.")] = False,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Find jobs of all accounts that you may see, newest first.

    The keys are those of the AWS CLI: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a session.
    """
    from holdfast.cli.jobs import Output, run_jobs  # noqa: PLC0415 - see quickstart

    asked = {
        "JobId": job_id,
        "AccountId": account,
        "UnitId": unit,
        "Kinds": None if kind is None else [each.upper() for each in kind],
        "States": None if state is None else [each.upper() for each in state],
        "Regions": region,
        "ResourceType": resource_type,
        "ResourceArn": resource,
        "PlanName": plan,
        "PolicyId": policy,
        "VaultName": vault_name,
        "MessageCategory": None if category is None else category.upper(),
        "MessageContains": message,
        "CreatedAfter": since,
        "CreatedBefore": until,
    }
    output = Output.LINES if as_lines else Output.JSON if as_json else Output.TABLE
    given = {name: value for name, value in asked.items() if value is not None}
    raise typer.Exit(run_jobs(given, limit=limit, output=output, endpoint_url=endpoint_url))


@app.command("test-selection")
def try_selection(
    file: Annotated[
        Path | None, typer.Argument(help="A selection as JSON, as `aws backup create-backup-selection` takes it.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Instead: the id of a plan ...")] = None,
    selection: Annotated[str | None, typer.Option(help="... and of its selection.")] = None,
    account: Annotated[str | None, typer.Option(help="On resources of this account of the organization.")] = None,
    resource: Annotated[str | None, typer.Option(help="Only on the resource with this ARN.")] = None,
    for_organization: Annotated[
        bool, typer.Option("--for-organization", help="As if the file's selection were a policy's.")
    ] = False,
    show_all: Annotated[bool, typer.Option("--all", help="Also resources that it does not nearly take.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many resources at most.")] = 100,
    as_json: AsJson = False,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Tell which resources a selection takes now, which it nearly takes, and the clause that decides on each.

    The keys are those of the AWS CLI, as for `holdfast jobs`.
    """
    from holdfast.cli.selection import run_test_selection, selection_in  # noqa: PLC0415 - see quickstart

    asked = {
        "Selection": None if file is None else selection_in(file),
        "ForOrganization": for_organization or None,
        "BackupPlanId": plan,
        "SelectionId": selection,
        "AccountId": account,
        "ResourceArn": resource,
        "Outcomes": ["MATCHED", "NEARLY_MATCHED", "NOT_MATCHED"] if show_all else None,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    raise typer.Exit(run_test_selection(given, limit=limit, as_json=as_json, endpoint_url=endpoint_url))


@app.command()
def incidents(
    incident_id: Annotated[str | None, typer.Argument(help="One incident, with what it affects.")] = None,
    state: Annotated[str | None, typer.Option(help="open, acknowledged or closed.")] = None,
    account: Annotated[str | None, typer.Option(help="That affect this account.")] = None,
    unit: Annotated[str | None, typer.Option(help="That affect accounts in this unit or below it.")] = None,
    acknowledge: Annotated[bool, typer.Option("--acknowledge", help="Take note of it; it closes by itself.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many at most.")] = 50,
    as_json: AsJson = False,
    endpoint_url: EndpointUrl = None,
) -> None:
    """Show what is wrong, each cause once: of all accounts that you may see, newest first.

    The keys are those of the AWS CLI: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a session.
    """
    from holdfast.cli.incidents import run_incidents  # noqa: PLC0415 - see quickstart

    asked = {"State": None if state is None else state.upper(), "AccountId": account, "UnitId": unit}
    code = run_incidents(
        incident_id,
        {name: value for name, value in asked.items() if value is not None},
        acknowledge=acknowledge,
        limit=limit,
        as_json=as_json,
        endpoint_url=endpoint_url,
    )
    raise typer.Exit(code)


state = typer.Typer(help="Copies of the control database in storage.", no_args_is_help=True)
app.add_typer(state, name="state")


@state.command("save")
def state_save(data_dir: DataDir, as_json: AsJson = False) -> None:
    """Copy the control database into storage now, with the server stopped; a running one does so every hour."""
    from holdfast.cli.state import run_save  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_save(data_dir, as_json=as_json))


@state.command("list")
def state_list(data_dir: DataDir, as_json: AsJson = False) -> None:
    """Name the copies of the control database in storage, the newest first."""
    from holdfast.cli.state import run_list  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_list(data_dir, as_json=as_json))


@state.command("restore")
def state_restore(
    data_dir: DataDir,
    state: Annotated[str, typer.Option(help="The state's id, as `holdfast state list` names it.")] = "latest",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it into the place of the present database, which is kept beside it.")
    ] = False,
    storage: Annotated[
        str | None, typer.Option(help="For a new data directory: the storage that the states lie in.")
    ] = None,
    root_key: Annotated[Path | None, typer.Option(help="For a new data directory: a file with the root key.")] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the control database back from storage, with the server stopped.

    Vaults, recovery points, locks and holds, and the audit trail, are taken further to what storage knows beyond the
    state; other changes since then are named. Nothing is deleted afterwards until an administrator releases it. Exit
    code 4 says that something in storage is not as it was written.
    """
    from holdfast.cli.state import RestoreOptions, run_restore  # noqa: PLC0415 - see quickstart

    options = RestoreOptions(
        data_dir=data_dir, state=state, replace=replace, storage=storage, root_key=root_key, as_json=as_json
    )
    raise typer.Exit(run_restore(options))


database = typer.Typer(help="The control database.", no_args_is_help=True)
app.add_typer(database, name="database")


@database.command("move")
def database_move(
    data_dir: DataDir,
    to: Annotated[str, typer.Option(help="An empty database: postgresql://USER@HOST/NAME, or sqlite:////PATH.")],
    as_json: AsJson = False,
) -> None:
    """Move the control database, say from SQLite to PostgreSQL, with the server stopped and nothing changed in it."""
    from holdfast.cli.database import run_move  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_move(data_dir, to, as_json=as_json))


@app.command()
def upgrade(
    data_dir: DataDir,
    check: Annotated[bool, typer.Option("--check", help="Only tell whether it is needed; exit code 4 if so.")] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Do it, after saving a state.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the control database to this release's schema."""
    from holdfast.cli.database import run_upgrade  # noqa: PLC0415 - see quickstart

    if check == apply:
        raise typer.BadParameter("say either --check or --apply")
    raise typer.Exit(run_upgrade(data_dir, apply=apply, as_json=as_json))


@app.command()
def rekey(
    data_dir: DataDir,
    new_root_key: Annotated[
        Path | None, typer.Option(help="A file with the new root key; a new one is made otherwise.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Put everything that is sealed or signed under another root key, with the server stopped.

    What was interrupted is gone on with by the same command. No recovery point is read or moved.
    """
    from holdfast.cli.rekey import run_rekey  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_rekey(data_dir, new_root_key, as_json=as_json))


@vault.command("password")
def vault_password(
    repository: Annotated[Path, typer.Argument(help="A repository in storage: STORAGE/vaults/VAULT/ACCOUNT/1.")],
    root_key: Annotated[Path | None, typer.Option(help="A file with the root key.")] = None,
    recovery_key: Annotated[Path | None, typer.Option(help="A file with the recovery key, or - for stdin.")] = None,
) -> None:
    """Print the password of one repository, to restore with restic when all else is lost.

    Everything in the repository can be read and removed with it; what is printed here is beyond every policy and lock.
    """
    from holdfast.cli.vault_password import run_vault_password  # noqa: PLC0415 - see quickstart

    raise typer.Exit(run_vault_password(repository, root_key=root_key, recovery_key=recovery_key))


@app.command()
def models() -> None:
    """Print the directory for AWS_DATA_PATH, with which boto3 and the AWS CLI know the service `holdfast`."""
    print(MODEL_DIRECTORY)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def run() -> None:
    """Run the command line, and turn what goes wrong into a sentence and an exit code."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except NotFoundError as error:
        _fail(str(error), EXIT_NOT_FOUND)
    except DeniedError as error:
        _fail(str(error), EXIT_DENIED)
    except HoldfastError as error:
        _fail(str(error), EXIT_FAILED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", EXIT_FAILED)
    except ClientError as error:
        code = EXIT_OF_ANSWER.get(error.response["Error"]["Code"], EXIT_FAILED)
        _fail(f"the server answered: {error.response['Error']['Message']}", code)
    except BotoCoreError as error:
        _fail(str(error), EXIT_FAILED)


def _fail(sentence: str, code: int) -> None:
    print(f"holdfast: error: {sentence}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
