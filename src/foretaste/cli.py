"""The command line. Exit codes: 0 pass or review, 1 blocked, 2 tool or input error, 130 interrupted."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from foretaste._version import __version__
from foretaste.commands import baseline, export, init, keys, people, provenance, review
from foretaste.commands import report as reports
from foretaste.commands.options import DEBUG, debug_option, role_options, show
from foretaste.errors import BlockedError, ForetasteError, InputError, VerificationError

if TYPE_CHECKING:
    from rich.console import Console

    from foretaste.check import Check
    from foretaste.results import Report

# Everything heavier than click is imported inside the commands: --help and completion answer at once.

_print = show
BUG_ADDRESS = "https://github.com/foretaste/foretaste/issues"
POLICY_FILE = "foretaste.yaml"
EXIT_BLOCKED, EXIT_ERROR, EXIT_INTERRUPTED = 1, 2, 130


class _Gate(click.Group):
    """Turns what a command raises into one line on standard error and an exit code.

    click ends an interrupt and several errors with code 1, which here means that the data are refused.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except (click.exceptions.Exit, click.UsageError):
            raise
        except click.ClickException as e:
            _complain(e.format_message())
        except (BlockedError, VerificationError) as e:
            _complain(str(e), "refused")
            _traceback(ctx)
            ctx.exit(EXIT_BLOCKED)
        except ForetasteError as e:
            _complain(str(e))
            _traceback(ctx)
        except (KeyboardInterrupt, click.Abort):
            _complain("interrupted")
            ctx.exit(EXIT_INTERRUPTED)
        except Exception as e:  # noqa: BLE001 - the exit code must say error, never the 1 of a refusal; nothing is hidden
            _complain(f"{type(e).__name__}: {e}")
            _traceback(ctx)
            if not ctx.meta.get(DEBUG):
                click.echo(
                    f"This is a bug in foretaste. Please run again with --debug and report it: {BUG_ADDRESS}",
                    err=True,
                )
        ctx.exit(EXIT_ERROR)


def _complain(message: str, head: str = "error") -> None:
    from foretaste.report.escape import visible

    click.echo(f"{head}: {visible(' '.join(message.split()))}", err=True)


def _traceback(ctx: click.Context) -> None:
    if ctx.meta.get(DEBUG):
        import traceback

        traceback.print_exc()


def _complete_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Ids of checks that start like the last of those typed, which stand with commas between."""
    from foretaste import checks

    before, comma, last = incomplete.rpartition(",")
    taken = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{check_id}", help=_summary(check))
        for check_id, check in checks.registry().items()
        if check_id.startswith(last) and check_id not in taken
    ]


@click.group(cls=_Gate, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
@debug_option
def main() -> None:
    """Keep poisoned data out of training: scan a data set before a model learns from it."""


@main.command(short_help="Scan data and write the report.")
@click.argument("data", type=click.Path())
@click.option("--policy", metavar="FILE", type=click.Path(), help="Policy file (YAML); the default policy without it.")
@role_options
@click.option("--checks", "check_ids", metavar="IDS", shell_complete=_complete_ids, help="Run these only, as in a,b.")
@click.option("--out", metavar="DIR", type=click.Path(), help="Folder for report.json, report.html, flagged.parquet.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print report.json instead of the summary; --out may be left out."
)
@click.option("--markdown", metavar="FILE", type=click.Path(), help="Write the report as Markdown too.")
@click.option("--sarif", metavar="FILE", type=click.Path(), help="Write the report as SARIF 2.1.0 too.")
@click.option("--junit", metavar="FILE", type=click.Path(), help="Write the report as JUnit XML too.")
@click.option(
    "--fail-on",
    type=click.Choice(["block", "review"]),
    default="block",
    show_default=True,
    help="The mildest verdict that ends with exit code 1.",
)
@click.option("--waivers", metavar="FILE", type=click.Path(), help="Waiver file: findings that somebody answers for.")
@click.option(
    "--attestation", "attestations", multiple=True, metavar="FILE", help="What a source signed about DATA; repeatable."
)
@click.option("--trust", metavar="FILE", type=click.Path(), help="Trust file: keys by which signatures are judged.")
@click.option(
    "--state",
    metavar="PATH",
    help="File with what earlier batches left: judge DATA with them, and add DATA if accepted. Made if needed.",
)
@click.option("--no-advance", is_flag=True, help="Leave the state as it is, whatever the verdict.")
@click.option(
    "--sign-with", "sign_keys", multiple=True, metavar="KEY", help="Sign report.json, for certify --report; repeatable."
)
@click.option("--spark", is_flag=True, help="Scan on Spark: on the cluster that its configuration names, else here.")
@click.option("--memory", metavar="SIZE", help="For the whole process, as in 1500MB or 4GB; else what the policy says.")
@click.option("--quiet", "-q", is_flag=True, help="No progress, and the verdict in one line.")
@debug_option
def scan(
    data: str,
    policy: str | None,
    check_ids: str | None,
    out: str | None,
    as_json: bool,
    markdown: str | None,
    sarif: str | None,
    junit: str | None,
    fail_on: str,
    waivers: str | None,
    attestations: tuple[str, ...],
    trust: str | None,
    state: str | None,
    no_advance: bool,
    sign_keys: tuple[str, ...],
    spark: bool,
    memory: str | None,
    quiet: bool,
    **roles: str | None,
) -> None:
    """Scan DATA: a file, folder, glob or address (s3://, gs://) of Parquet, Arrow, CSV or JSON lines.

    Columns whose roles are not given are guessed from common names; the summary says which.

    Exit code 0: pass or review. 1: blocked. 2: the data or the tool had an error, which is never a pass.
    """
    others = {k: v for k, v in (("markdown", markdown), ("sarif", sarif), ("junit", junit)) if v is not None}
    if out is None and not as_json:
        raise click.UsageError("Missing option '--out' (or print the report with --json).")
    from foretaste.reading.stores import local
    from foretaste.report import FILES, write

    folder = None if out is None else local(out, "a report")
    if folder is not None:
        _check_folder(folder, data, FILES)
        # A report that lies there must not be taken for the result of this scan, however this scan ends.
        for name in (*FILES, "scan.intoto.json"):
            _remove(folder / name)
    for form, file in others.items():
        if local(file, "a report").exists() and Path(data).exists() and Path(file).samefile(data):
            raise click.UsageError(f"--{form} {file} is the data; choose another file.")
        if not Path(file).absolute().parent.is_dir():
            raise click.UsageError(f"--{form} {file}: there is no such folder; make it, or choose another file.")
        _remove(Path(file))
    if sign_keys and out is None:
        raise click.UsageError("--sign-with signs report.json; name its folder with --out.")
    signers = _signers(sign_keys)
    if no_advance and state is None:
        raise click.UsageError("--no-advance says what to do with a state; name it with --state PATH.")
    if state is not None and check_ids is not None and not no_advance:
        raise click.UsageError("a state holds what the whole policy let pass; with --checks, say --no-advance too.")
    named = {k.removeprefix("role_"): v for k, v in roles.items()}
    # What this command refuses must not enter the state.
    kept: dict[str, Any] = {
        "state": state,
        "advance": not no_advance,
        "accept": "pass" if fail_on == "review" else None,
    }
    options = (kept if state is not None else {}) | ({"spark": True} if spark else {})
    options |= {"waivers": waivers, "attestations": attestations, "trust": trust}
    if memory is not None:
        options["memory_mb"] = _megabytes(memory)
    report = _scan(data, policy, check_ids, named, quiet, options)
    paths = {} if folder is None else write(report, folder)
    for form, file in others.items():
        reports.write_as(report, form, file)
    if signers:
        from foretaste.provenance import scans

        scans.sign(paths["report.json"], signers)
    try:
        _show(report, paths, as_json, quiet)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output left. The verdict stands, and Python must not fail when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(_exit_code(report, fail_on))


def _signers(keys: tuple[str, ...]) -> list[Any]:
    """Keys are opened before the scan: one that cannot be read would show after hours of work."""
    if not keys:
        return []
    from foretaste.provenance.signers import open_signer

    return [open_signer(key) for key in keys]


def _megabytes(size: str) -> int:
    """Mebibytes of a size as people write it.

    Raises:
        UsageError: where it is none.
    """
    match = re.fullmatch(r"(\d+)\s*([MG])(i?B)?", size.strip(), re.IGNORECASE)
    if match is None:
        raise click.UsageError(f"--memory {size}: write a whole number and a unit, as in 512MB or 4GB.")
    return int(match[1]) * (1024 if match[2].upper() == "G" else 1)


def _check_folder(folder: Path, data: str, names: tuple[str, ...]) -> None:
    """Refuse, before hours of work, a folder that cannot take the report, or where it would be data.

    Raises:
        InputError: with the reason.
    """
    import glob

    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir():
        raise InputError(f"--out {folder}: {existing} is not a folder; choose another --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: no permission to write in {existing}; choose another --out")
    data = data.removeprefix("delta://").removeprefix("lance://").partition("?version=")[0]
    if "://" in data:
        return
    target, source = folder.resolve(), Path(data).resolve()
    inputs = {source, *(Path(p).resolve() for p in glob.glob(data, recursive=True))}
    inside = source.is_dir() and target.is_relative_to(source)
    # Reading leaves out folders whose names start with a dot or an underscore.
    if inside and any(part.startswith((".", "_")) for part in target.relative_to(source).parts):
        inside = False
    if inside or inputs & {target / name for name in names}:
        raise InputError(
            f"--out {folder} lies within the data {data}, where the report would be read as data; "
            "choose a folder outside"
        )


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise InputError(f"cannot remove the report of an earlier scan: {e}; choose another --out") from e


def _scan(
    data: str,
    policy: str | None,
    check_ids: str | None,
    roles: dict[str, str | None],
    quiet: bool,
    options: dict[str, Any],
) -> Report:
    from foretaste.engine import scan
    from foretaste.policy import Policy
    from foretaste.report.progress import shown

    chosen = Policy.load(policy)
    if check_ids is not None:
        ids = [i.strip() for i in check_ids.split(",") if i.strip()]
        if not ids:
            raise InputError('--checks names no check; see "foretaste checks"')
        chosen = chosen.only(*ids)
    with nullcontext() if quiet else shown(sys.stderr) as progress:
        return scan(data, chosen, roles=roles, progress=progress, **options)


def _show(report: Report, paths: dict[str, Path], as_json: bool, quiet: bool) -> None:
    if as_json:
        from foretaste.report.model import to_json

        click.echo(to_json(report), nl=False)
    elif quiet:
        click.echo(report.headline())
    else:
        from foretaste.report.terminal import print_report

        _print(lambda console: print_report(report, console, paths))


def _exit_code(report: Report, fail_on: str) -> int:
    from foretaste.results import Outcome

    if report.verdict is Outcome.PASS or (report.verdict is Outcome.REVIEW and fail_on != "review"):
        return 0
    return EXIT_BLOCKED if report.verdict in (Outcome.BLOCK, Outcome.REVIEW) else EXIT_ERROR


@main.command(short_help="List the checks, or explain one.")
@click.argument("check_id", metavar="[CHECK]", required=False, shell_complete=_complete_ids)
def checks(check_id: str | None) -> None:
    """List the installed checks, or explain CHECK: what it finds, what it misses, and its parameters."""
    from foretaste import checks

    if check_id is None:
        listed = checks.registry()
        _print(lambda console: _draw_list(console, listed))
    else:
        check = checks.get(check_id)
        _print(lambda console: _draw_check(console, check))


def _draw_list(console: Console, listed: Mapping[str, type[Check[Any]]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for check_id, check in listed.items():
        package = check.__module__.partition(".")[0]
        origin = "" if package == "foretaste" else f" (of {package})"
        table.add_row(Text(check_id, style="bold"), Text(_summary(check) + origin))
    console.print(table)
    console.print(Text('\n"foretaste checks CHECK" explains one.', style="bright_black"))


def _draw_check(console: Console, check: type[Check[Any]]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    from foretaste.explain import explain

    explained = explain(check)
    about = "\n\n".join((explained.summary, *explained.paragraphs)).replace("``", "`")
    console.print(Text(check.id, style="bold"))
    console.print(Padding(Text(about), (1, 0, 1, 2)))
    console.print(Text("Parameters" if explained.parameters else "No parameters", style="bold"))
    for one in explained.parameters:
        console.print(Padding(Text.assemble((one.name, "bold"), f"  {one.kind}, default {one.default}"), (0, 0, 0, 2)))
        if one.meaning:
            console.print(Padding(Text(one.meaning.replace("``", "`")), (0, 0, 0, 6)))


def _summary(check: type[Check[Any]]) -> str:
    return (check.__doc__ or "").strip().split("\n")[0]


@main.group(short_help="Write or validate a policy file.")
def policy() -> None:
    """Write or validate a policy file: which checks run, and with which limits."""


@policy.command("init")
@click.argument("file", default=POLICY_FILE, type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--force", is_flag=True, help="Overwrite FILE.")
def policy_init(file: str, force: bool) -> None:
    """Write the default policy to FILE (foretaste.yaml; - for standard output), every limit spelt out."""
    from foretaste.policy import Policy

    text = Policy().to_yaml()
    if file == "-":
        click.echo(text, nl=False)
        return
    try:
        with open(file, "w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(f"{file} exists; choose another name, or overwrite it with --force") from None
    except OSError as e:
        raise InputError(f"cannot write {file}: {e.strerror}; choose another place") from e
    click.echo(f"wrote {file}; use it with: foretaste scan DATA --policy {file} --out DIR")


@policy.command("check")
@click.argument("file", type=click.Path())
def policy_check(file: str) -> None:
    """Validate FILE and say which checks it switches on."""
    from foretaste import checks
    from foretaste.policy import Policy
    from foretaste.report.wording import count

    loaded = Policy.load(file)
    on = [c.id for c in loaded.checks]
    off = [i for i in checks.registry() if i not in on]
    click.echo(f"{file} is valid: {count(len(on), 'check')} on ({', '.join(on)})")
    if off:
        click.echo(f"switched off: {', '.join(off)}")
    click.echo(f"digest: {loaded.digest}")


@main.group(short_help="Show what earlier batches left.")
def state() -> None:
    """Look at a state: what "foretaste scan --state" keeps of the batches that it accepted."""


@state.command("show")
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with every batch and source.")
def state_show(path: str, as_json: bool) -> None:
    """Show the batches, rows and sources that the state at PATH holds."""
    from foretaste.history import History
    from foretaste.report.escape import visible
    from foretaste.report.wording import count

    history = History.open(path)
    if as_json:
        import json

        click.echo(json.dumps(history.summary(), indent=1, ensure_ascii=True))
        return
    click.echo(
        f"{visible(path)}: {count(len(history.batches), 'batch', 'batches')}, {count(history.rows, 'row')} accepted"
    )
    click.echo(visible(f"{history.kind} data with the roles {', '.join(sorted(history.roles))}"))
    click.echo(f"holds {count(history.held_rows, 'row')} whole, {history.suspects:,} of them suspects, and counts of "
               f"{history.background.rows:,}")  # fmt: skip
    for batch in history.batches[-10:]:
        said = ", ".join(visible(batch[n], 80) for n in ("verdict", "accepted", "name"))
        click.echo(f"  {batch['batch']}: {count(batch['rows'], 'row')}, {said}, {visible(batch['digest'], 19)}")
    for name, rows in sorted(history.sources.items(), key=lambda s: -s[1])[:10]:
        click.echo(f"  source {visible(name, 60) or '(empty)'}: {count(rows, 'row')}")
    click.echo(f"digest: {history.digest}")


@main.command(short_help="Compile ahead of the first scan.")
def warm_up() -> None:
    """Compile what scans and attestations need, so that the first one does not wait: while an image is built.

    Run it as the user that scans and on such a processor: another one's code is compiled anew.
    """
    from foretaste.warming import compile_all

    compiled, folders = compile_all()
    if not folders:
        raise InputError(
            "no folder in which numba may keep compiled code: name one in NUMBA_CACHE_DIR that this user may write to"
        )
    click.echo(f"compiled {compiled} kernels; they are kept in {', '.join(sorted(folders))}")


@main.command(short_help="Print a shell completion script.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash: foretaste completion bash >> ~/.bashrc
    zsh:  foretaste completion zsh >> ~/.zshrc
    fish: foretaste completion fish > ~/.config/fish/completions/foretaste.fish
    """
    made = get_completion_class(shell)
    assert made is not None, "click has completion for each of the choices"
    click.echo(made(main, {}, "foretaste", "_FORETASTE_COMPLETE").source())


for _room in (keys, people, provenance, baseline, export, reports, review, init):
    _room.register(main)

if __name__ == "__main__":
    main(prog_name="foretaste")
