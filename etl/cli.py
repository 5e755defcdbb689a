"""The command line: one job is one argv, whether typed, submitted, scheduled or run in a notebook.

Exit codes: 0 done, 1 the job failed, 2 the arguments or the config are wrong, 130 interrupted
(Ctrl-C), 141 where nobody reads the output any more, 143 terminated (SIGTERM).
"""

import argparse
import json
import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from io import TextIOWrapper
from math import inf
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import TYPE_CHECKING, NoReturn

from longattn.etl.kept import ask, serve
from longattn.etl.run.interrupts import interruptible
from longattn.etl.run.jobs import JOBS, between
from longattn.etl.run.reasons import one_line
from longattn.udfs import __version__
from longattn.udfs.errors import LongAttnError, ModelError, UserError, missing_extra
from longattn.udfs.redaction import redacted_text

if TYPE_CHECKING:
    from longattn.etl.config import Config
    from longattn.udfs.scorers.base import ScorerSpec
    from longattn.udfs.scorers.lines import Draw

    Commands = argparse._SubParsersAction["_Parser"]


MOST_HOURS = 1_000_000  # of vacuum: a century, which every connector can subtract


def entry() -> None:
    """The console script `longattn`; success is no exit, which Databricks takes for a failure."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be any bytes
    kept = ask(sys.argv[1:])
    if code := main(sys.argv[1:]) if kept is None else kept:
        sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command; errors made on purpose become one line on stderr and an exit code."""
    try:
        with interruptible():
            arguments = _parser().parse_args(argv)
            code = int(arguments.run(arguments) or 0)
            print(end="", flush=True)  # at the exit Python would say that nobody reads it
            return code
    except LongAttnError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt as interrupt:
        return _fail(one_line(interrupt), getattr(interrupt, "exit_code", 130))
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _is_unread():
            return 141
        if isinstance(error, ModuleNotFoundError):
            return _fail(missing_extra(error), 2)
        if os.environ.get("LONGATTN_TRACEBACK"):
            raise
        return _fail(f"{one_line(error)} (LONGATTN_TRACEBACK=1 shows the traceback)", 1)


def _is_unread() -> bool:
    """Whether nobody reads standard output any more, as after `| head`; the rest goes nowhere."""
    pipe = select.poll()
    pipe.register(1)
    unread = any(event & (select.POLLERR | select.POLLHUP) for _, event in pipe.poll(0))
    if unread:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return unread


def _fail(message: str, code: int) -> int:
    """Print one line; what a terminal would act on, as an excerpt may hold, as escapes."""
    letters = (c if c.isprintable() else ascii(c)[1:-1] for c in redacted_text(message))
    print(f"longattn: {''.join(letters)}", file=sys.stderr)
    return code


class _Parser(argparse.ArgumentParser):
    """A parser that repeats no secret; its epilog may cost time, and is made when help is asked
    for.
    """

    late_epilog: Callable[[], str] | None = None

    def error(self, message: str) -> NoReturn:
        super().error(redacted_text(message))

    def format_help(self) -> str:
        if self.late_epilog is not None:
            self.epilog = self.late_epilog()
        return super().format_help()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="longattn",
        description="Rank long documents by how much their far context helps a language model.",
        epilog="Begin with: longattn init FOLDER; longattn run --config longattn.yaml",
    )
    parser.add_argument("--version", action="version", version=f"longattn {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_run(commands)
    for job, text in JOBS.items():
        _add_job(commands, job, text)
    for add in (_add_init, _add_check, _add_estimate, _add_status, _add_vacuum, _add_forget):
        add(commands)
    for add in (_add_session, _add_trace, _add_verify, _add_selections, _add_config, _add_scorer):
        add(commands)
    _add_score_window(commands)
    return parser


def _command(commands: "Commands", name: str, text: str) -> _Parser:
    """A command whose help and description are the same sentence."""
    parser: _Parser = commands.add_parser(name, help=text, description=text)
    return parser


def _configured(commands: "Commands", name: str, text: str, required: bool = True) -> _Parser:
    """A command that takes a config."""
    parser = _command(commands, name, text)
    parser.add_argument("--config", required=required, metavar="FILE", help="YAML settings")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, for example window.length=32768",
    )
    parser.add_argument(
        "--overrides",
        type=_overrides,
        dest="set",
        action="extend",
        metavar="JSON",
        help='the same as a JSON list, ["KEY=VALUE", ...], for schedulers that hold one value',
    )
    return parser


def _overrides(text: str) -> list[str]:
    """A JSON list of KEY=VALUE."""
    try:
        overrides = json.loads(text)
    except ValueError:
        overrides = None
    if not isinstance(overrides, list) or not all(isinstance(value, str) for value in overrides):
        raise argparse.ArgumentTypeError(f'expected a JSON list like ["seed=1"], got {text!r}')
    return overrides


def _add_run(commands: "Commands") -> None:
    parser = _configured(commands, "run", f"run all jobs in order: {', '.join(JOBS)}")
    parser.add_argument("--from", dest="first", choices=JOBS, help="start at this job")
    parser.add_argument("--to", dest="last", choices=JOBS, help="stop after this job")
    _add_log_format(parser)
    parser.set_defaults(run=_run_checked)


def _add_log_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--log-format",
        choices=["text", "json"],
        help="how progress and messages are printed (default: LONGATTN_LOG_FORMAT, or text)",
    )


def _add_init(commands: "Commands") -> None:
    text = "write a commented config from what a folder of files holds"
    parser = _command(commands, "init", text)
    parser.add_argument("folder", metavar="FOLDER", help="each subfolder is a domain")
    parser.add_argument(
        "--out", default="longattn.yaml", metavar="FILE", help="config to write (longattn.yaml)"
    )
    parser.add_argument(
        "--tokenizer",
        type=_text,
        metavar="PATH",
        help="folder, tokenizer.json or hub id (default: words)",
    )
    parser.set_defaults(run=_init)


def _add_check(commands: "Commands") -> None:
    parser = _configured(
        commands, "check", "say what is wrong with a config before the first job: exit 2"
    )
    parser.set_defaults(run=_check)


def _add_estimate(commands: "Commands") -> None:
    text = "say what a run will make, take and cost, from a sample of its sources"
    parser = _configured(commands, "estimate", text)
    parser.add_argument(
        "--device", metavar="GPU", help="score on a GPU elsewhere: h100, h200, a100"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.set_defaults(run=_estimate)


def _add_job(commands: "Commands", job: str, text: str) -> None:
    parser = _configured(commands, job, text)
    _add_log_format(parser)
    parser.set_defaults(run=_run, first=job, last=job)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.late_epilog = partial(_settings_of, job)
    if job == "select":
        parser.add_argument(
            "--name", type=_text, help="name of the selection; overrides select.name"
        )
    if job == "report":
        parser.add_argument("--open", action="store_true", help="open the page in a browser")


def _settings_of(job: str) -> str:
    from longattn.etl.config.explain import of_job

    return of_job(job)


def _add_status(commands: "Commands") -> None:
    parser = _configured(commands, "status", "show tables, last runs and whether they balance")
    parser.add_argument(
        "--check",
        action="store_true",
        help="look for repeated keys, lost rows and damaged files; exit 1 and a line for each",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.set_defaults(run=_status)


def _add_session(commands: "Commands") -> None:
    text = "keep Spark started for the commands of this folder, until Ctrl-C"
    parser = _configured(commands, "session", text)
    parser.add_argument(
        "--minutes",
        type=_number(lambda n: 0 < 60 * n < TIMEOUT_MAX, "number of minutes above 0"),
        default=60.0,
        help="minutes without a command after which the session ends (default 60)",
    )
    parser.set_defaults(run=_session)


def _add_trace(commands: "Commands") -> None:
    text = "follow a window back to its file, line and characters, or say what a sample is"
    parser = _configured(commands, "trace", text, required=False)
    parser.add_argument("window_id", metavar="WINDOW_ID", nargs="?")
    parser.add_argument("--export", metavar="PATH", help="an export's folder, with --sample")
    parser.add_argument("--sample", type=int, metavar="N", help="number of a sample, from 0")
    parser.add_argument(
        "--epoch", type=int, default=0, metavar="K", help="the N-th in the order of this epoch"
    )
    parser.add_argument("--seed", type=int, default=0, help="of epoch_order (%(default)s)")
    parser.set_defaults(run=_trace)


def _add_selections(commands: "Commands") -> None:
    parser = _command(
        commands, "selections", "list the selections of a root, show and compare them"
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    _configured(actions, "list", "all selections, with windows, samples, tokens and scores")
    show = _configured(actions, "show", "one selection, by domain")
    show.add_argument("names", nargs=1, metavar="NAME")
    diff = _configured(actions, "diff", "windows that two selections share, and that one has alone")
    diff.add_argument("names", nargs=2, metavar=("A", "B"))
    for action in actions.choices.values():
        action.set_defaults(run=_selections)


def _add_verify(commands: "Commands") -> None:
    text = "compare an export with its manifest: hashes, counts, boundaries; exit 1 for each fault"
    parser = _command(commands, "verify", text)
    parser.add_argument("export", metavar="EXPORT", help="folder of an export")
    parser.set_defaults(run=_verify)


def _add_vacuum(commands: "Commands") -> None:
    parser = _configured(commands, "vacuum", "list files that nothing names any more; delete them")
    parser.add_argument("--apply", action="store_true", help="delete; without it nothing changes")
    parser.add_argument(
        "--hours",
        type=_number(lambda n: 0 <= n < MOST_HOURS, f"number of hours from 0 to {MOST_HOURS:,}"),
        default=168.0,
        help="keep the files of versions this young, for their readers (default 168)",
    )
    parser.add_argument(
        "--rows",
        action="store_true",
        help="rows too: of documents in no source of the config, and of windows that are gone",
    )
    parser.add_argument(
        "--selections",
        nargs="+",
        default=[],
        metavar="NAME",
        help="these selections too, by the names that `longattn selections list` prints",
    )
    parser.set_defaults(run=_vacuum)


def _add_forget(commands: "Commands") -> None:
    text = "delete documents and all that came of them; make selections and exports anew"
    parser = _configured(commands, "forget", text)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--ids", metavar="FILE", help="document ids, one to a line")
    which.add_argument(
        "--where", metavar="SQL", help="a condition over documents, as \"source_id = '12'\""
    )
    which.add_argument(
        "--verify", metavar="EXPORT", help="what an export still has of documents forgotten before"
    )
    parser.add_argument("--dry-run", action="store_true", help="count rows; nothing changes")
    parser.set_defaults(run=_forget)


def _add_config(commands: "Commands") -> None:
    text = "check a config and print all settings as YAML; or explain the settings there are"
    parser = _configured(commands, "config", text, required=False)
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="PREFIX",
        help="say what each setting means, for example those of window",
    )
    shown.add_argument("--schema", action="store_true", help="print a JSON Schema, for editors")
    shown.add_argument("--markdown", action="store_true", help="print docs/settings.md")
    parser.set_defaults(run=_print_config)


def _add_scorer(commands: "Commands") -> None:
    parser = _command(commands, "scorer", "make and look at scorers")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    build = _command(actions, "build", "extract from a checkpoint what scoring needs of it")
    build.add_argument("--model", required=True, help="folder, .gguf file or hub id")
    build.add_argument("--out", required=True, metavar="DIR", help="folder to make")
    build.add_argument(
        "--layers", type=int, nargs="+", default=[0], help="layers that will be scored (default 0)"
    )
    build.set_defaults(run=_build_scorer)
    calibrate = _configured(
        actions, "calibrate", "fit cheap scorers to fargain on a sample of the config's windows"
    )
    calibrate.add_argument(
        "--out", default="data/calibrated", metavar="DIR", help="folder to make (%(default)s)"
    )
    calibrate.add_argument(
        "--windows",
        type=_positive,
        default=200,
        metavar="N",
        help="how many windows to sample from each domain (%(default)s)",
    )
    calibrate.set_defaults(run=_calibrate_scorer)
    background = _configured(
        actions, "background", "count the config's documents for recall and seams to judge by"
    )
    background.add_argument(
        "--out",
        default="data/backgrounds",
        metavar="DIR",
        help="folder to make it in (%(default)s)",
    )
    background.add_argument(
        "--tokens",
        type=_positive,
        default=200_000_000,
        metavar="N",
        help="about how many tokens to count at most (%(default)s)",
    )
    background.set_defaults(run=_count_background)


def _add_score_window(commands: "Commands") -> None:
    parser = _command(
        commands, "score-window", "score windows given as JSON lines (input_ids or text) on stdin"
    )
    parser.add_argument(
        "--scorer",
        metavar="NAME",
        help="as in score.scorer (default: recall, which reads no model; with --model longattn)",
    )
    parser.add_argument(
        "--model",
        default="",
        metavar="DIR",
        help="scorer or checkpoint, where the scorer reads one",
    )
    parser.add_argument(
        "--tokenizer",
        type=_text,
        metavar="PATH",
        help="of text and ids: folder, tokenizer.json, hub id or words (default: the model's; of"
        " text without a model words)",
    )
    parser.add_argument(
        "--k", type=_positive, metavar="N", help="minimum distance (default: the scorer's own)"
    )
    parser.add_argument("--layers", type=int, nargs="+", default=[0])
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument(
        "--rope-theta",
        type=_number(lambda n: 0 < n < inf, "number above 0"),
        help="override the model's rope base (ABF)",
    )
    parser.add_argument("--bos", action="store_true", help="put BOS before each window")
    parser.add_argument(
        "--stride", type=_positive, metavar="N", help="fargain: tokens that share a short context"
    )
    parser.add_argument("--pairs", type=_positive, metavar="N", help="prolong: pairs compared")
    parser.add_argument(
        "--variant",
        choices=["paper", "code"],
        help="ladm: score by the paper's equations or as its published code does",
    )
    parser.add_argument(
        "--background", metavar="DIR", help="folder of a background, for recall and seams"
    )
    parser.add_argument("--plot", metavar="FILE.png", help="draw where the long attention goes")
    parser.set_defaults(run=_score_window)


def _load(arguments: argparse.Namespace) -> "Config":
    from longattn.etl import config as config_module

    if (name := getattr(arguments, "name", None)) is None:
        return config_module.load(arguments.config, arguments.set)
    import yaml

    quoted = yaml.safe_dump(name, default_style='"')  # JSON has halves of pairs, which are no text
    return config_module.load(arguments.config, [*arguments.set, f"select.name={quoted}"])


def _run(arguments: argparse.Namespace) -> None:
    config, jobs = _load(arguments), between(arguments.first, arguments.last)
    from longattn.etl.console import open_report, run_jobs

    run_jobs(config, jobs, arguments.log_format)
    if getattr(arguments, "open", False):
        open_report(config)


def _run_checked(arguments: argparse.Namespace) -> int:
    """All jobs, after a look at what they need: a missing model is no news for the fourth job."""
    from longattn.etl.before.check import check
    from longattn.etl.before.findings import faults

    jobs = between(arguments.first, arguments.last)
    findings = check(_load(arguments), jobs)
    if bad := faults(findings):
        return _fail_all(map(str, bad), 2)
    for finding in findings:
        if finding.kind == "note":
            print(f"check: {finding}", file=sys.stderr)
    _run(arguments)
    return 0


def _init(arguments: argparse.Namespace) -> None:
    from longattn.etl.before.draft import write_draft

    print("\n".join(write_draft(arguments.folder, arguments.out, arguments.tokenizer)))


def _check(arguments: argparse.Namespace) -> int:
    from longattn.etl import config as config_module

    if wrong := config_module.faults(arguments.config, arguments.set):
        return _fail_all(wrong, 2)
    from longattn.etl.before.check import check
    from longattn.etl.before.findings import faults

    findings = check(_load(arguments))
    for finding in findings:
        if finding.kind != "fault":
            print(finding)
    return _fail_all(map(str, faults(findings)), 2)


def _estimate(arguments: argparse.Namespace) -> None:
    from longattn.etl.before.estimate import estimate, hours_table, notes, sizes_table
    from longattn.etl.run.show import print_table

    run_estimate = estimate(_load(arguments), arguments.device)
    if arguments.json:
        print(json.dumps(run_estimate.as_dict(), indent=2))
        return
    for draw in (sizes_table, hours_table):
        print_table(draw(run_estimate))
    print("\n".join(notes(run_estimate)))


def _fail_all(messages: Iterable[str], code: int) -> int:
    """A line for each fault; 0 where there is none."""
    return max((_fail(message, code) for message in messages), default=0)


def _status(arguments: argparse.Namespace) -> int:
    if arguments.check:
        from longattn.etl.console import show_check

        return show_check(_load(arguments), as_json=arguments.json)
    from longattn.etl.after.printed import jobs_table, scorers_table, tables_table
    from longattn.etl.after.status import status, status_of_logs

    config = _load(arguments)
    current_status = status_of_logs(config)
    if current_status is None:  # only a session can open these tables
        from longattn.etl.console import open_context

        current_status = status(open_context(config, quiet=True))
    if arguments.json:
        print(json.dumps(current_status.as_dict(), indent=2, sort_keys=True, default=str))
        return 0
    from longattn.etl.run.show import print_table

    for draw in (tables_table, scorers_table, jobs_table):
        print_table(draw(current_status))
    return 0


def _vacuum(arguments: argparse.Namespace) -> None:
    from longattn.etl.console import show_vacuum

    show_vacuum(
        _load(arguments),
        arguments.hours,
        rows=arguments.rows,
        names=arguments.selections,
        apply=arguments.apply,
    )


def _forget(arguments: argparse.Namespace) -> int:
    from longattn.etl.console import run_jobs, show_forget, show_remains

    config = _load(arguments)
    if arguments.verify:
        return show_remains(config, arguments.verify)
    show_forget(config, arguments.ids, arguments.where, dry_run=arguments.dry_run)
    if not arguments.dry_run:
        run_jobs(config, between("dedup", "report"))
    return 0


def _session(arguments: argparse.Namespace) -> None:
    from longattn.etl.console import started

    with started(_load(arguments)) as (apart, sound):
        serve(apart(main), sound, arguments.minutes)


def _verify(arguments: argparse.Namespace) -> int:
    from longattn.etl.export.read import faults, opened

    if code := _fail_all((f"{arguments.export}: {fault}" for fault in faults(arguments.export)), 1):
        return code
    _, manifest = opened(arguments.export)
    print(f"{arguments.export}: {manifest['samples']:,} samples: nothing is wrong")
    return 0


def _trace_sample(arguments: argparse.Namespace) -> None:
    from longattn.etl.export.order import sample_in
    from longattn.etl.export.read import lines_of

    if arguments.sample is None or arguments.window_id:
        raise UserError("trace: give --export with --sample N, and no window")
    number = sample_in(arguments.export, arguments.sample, arguments.epoch, arguments.seed)
    print("\n".join(lines_of(arguments.export, number)))


def _trace(arguments: argparse.Namespace) -> None:
    if arguments.export:
        return _trace_sample(arguments)
    if not arguments.config or not arguments.window_id:
        raise UserError("trace: give --config and a window, or --export and --sample")
    from longattn.etl.after.provenance import trace
    from longattn.etl.console import reader_of

    config = _load(arguments)
    print("\n".join(trace(reader_of(config), config, arguments.window_id)))


def _selections(arguments: argparse.Namespace) -> None:
    from longattn.etl.console import show_selections

    show_selections(_load(arguments), getattr(arguments, "names", []))


def _print_config(arguments: argparse.Namespace) -> None:
    from longattn.etl.config import explain as settings

    if arguments.explain is not None:
        print(settings.as_text(settings.settings(arguments.explain)))
    elif arguments.schema:
        print(json.dumps(settings.json_schema(), indent=2))
    elif arguments.markdown:
        print(settings.as_markdown(), end="")
    elif arguments.config is None:
        raise UserError("config: --config FILE is needed, or --explain, or --schema")
    else:
        _print_values(_load(arguments))


def _print_values(config: "Config") -> None:
    import yaml

    print(yaml.safe_dump(config.shown(), sort_keys=False), end="")


def _build_scorer(arguments: argparse.Namespace) -> None:
    from longattn.udfs.models.build import build_scorer

    print(build_scorer(arguments.model, arguments.out, layers=arguments.layers))


def _count_background(arguments: argparse.Namespace) -> None:
    from longattn.etl.console import count_background

    count_background(_load(arguments), Path(arguments.out), arguments.tokens)


def _calibrate_scorer(arguments: argparse.Namespace) -> None:
    from longattn.etl.console import calibrate_scorer

    calibrate_scorer(_load(arguments), Path(arguments.out), arguments.windows)


def _score_window(arguments: argparse.Namespace) -> None:
    from longattn.udfs.scorers.lines import score_window_lines

    draw = _drawing(arguments.plot) if arguments.plot else None
    try:
        spec = _window_spec(arguments)
        answers = score_window_lines(sys.stdin.buffer, spec, draw, arguments.tokenizer)
    except ModelError as error:
        raise UserError(str(error)) from None
    refused = []
    for answer in answers:
        print(json.dumps(answer), flush=True)
        refused += [answer] if "error" in answer else []
    if refused:
        first, more = refused[0], len(refused) - 1
        also = f" (and {more} more)" if more else ""
        raise UserError(f"line {first['line']}: {first['error']}{also}")


def _window_spec(arguments: argparse.Namespace) -> "ScorerSpec":
    from longattn.udfs.hub import may_be_hub_id
    from longattn.udfs.scorers.base import ScorerSpec
    from longattn.udfs.scorers.registry import reads_model

    scorer = arguments.scorer or ("longattn" if arguments.model else ScorerSpec.scorer)
    if reads_model(scorer) and not arguments.model:
        raise UserError(f"--model DIR is missing: the scorer {scorer} reads a model")
    if arguments.model and not reads_model(scorer):
        raise UserError(f"--model: none is read by {scorer}: name a scorer that does")
    if arguments.model and not (Path(arguments.model).exists() or may_be_hub_id(arguments.model)):
        raise UserError(f"--model {arguments.model}: no such folder or file")
    return ScorerSpec(
        scorer=scorer,
        model=arguments.model,
        k=arguments.k,
        layers=tuple(arguments.layers),
        dtype=arguments.dtype,
        rope_theta=arguments.rope_theta,
        bos=arguments.bos,
        stride=arguments.stride,
        pairs=arguments.pairs or ScorerSpec.pairs,
        variant=arguments.variant or ScorerSpec.variant,
        background=arguments.background,
    )


def _drawing(path: str) -> "Draw":
    from longattn.udfs.pictures.plot import draw_window

    return partial(draw_window, path=Path(path))


def _number(fits: Callable[[float], bool], what: str) -> Callable[[str], float]:
    """What reads a number that fits, and says of any other text that it is none."""

    def read(text: str) -> float:
        with suppress(ValueError):
            if fits(float(text)):
                return float(text)
        raise argparse.ArgumentTypeError(f"{text} is no {what}")

    return read


def _text(text: str) -> str:
    if not text:  # of a variable that is not set
        raise argparse.ArgumentTypeError("it is empty")
    return text


def _positive(text: str) -> int:
    with suppress(ValueError):
        if int(text) > 0:
            return int(text)
    raise argparse.ArgumentTypeError(f"{text} is no positive whole number")


if __name__ == "__main__":
    entry()
