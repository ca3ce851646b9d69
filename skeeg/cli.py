"""The command ``skeeg``: run a benchmark, list what can be run, write the report again."""

import argparse
import contextlib
import os
import re
import shlex
import sys

from . import __version__

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

_EPILOG = """\
examples:
  skeeg bench                                          three protocols on simulated subjects, in five minutes
  skeeg bench --dataset grasp --evaluation cross-subject --pipelines CSP+LDA EEGNet
  skeeg bench --evaluation within-session few-shot:others --pipelines TS+LR MIRepNet --scoring accuracy kappa
  skeeg bench --dataset BNCI2014_001 BNCI2014_004 --evaluation downstream --pipelines TS+LR EEGNet
  skeeg bench --pipelines my_pipeline.yml MDM --param-grid grid.yml --seeds 0 1 2 --jobs 2
  skeeg bench --dataset my_recordings --unit uV --classes 769=left_hand 770=right_hand --tmin 0.5 --tmax 3.5 --notch 50

A run that is stopped continues when the same command is given again.
Exit status: 0 all done, 1 a pipeline failed, 2 wrong arguments or nothing computed, 130 stopped by Ctrl-C.
"""


def build_parser():
    """Parser of the command line; what it gives has the attribute ``action``."""
    parser = argparse.ArgumentParser(prog="skeeg", description="EEG decoding methods compared the MOABB way.")
    parser.add_argument("--version", action="version", version=f"skeeg {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_bench(commands)
    _add_pretrain(commands)
    listing = commands.add_parser("list", help="show datasets, pipelines and evaluations")
    listing.set_defaults(action=list_names)
    report = commands.add_parser("report", help="write the report of a results folder again")
    report.add_argument("folder", help="folder that `skeeg bench` wrote to")
    report.add_argument(
        "--figures", choices=["pdf", "svg", "png"], help="figures of this format, LaTeX and CSV tables too"
    )
    report.set_defaults(action=report_again)
    return parser


def _add_bench(commands):
    """Options of ``skeeg bench``."""
    bench = commands.add_parser(
        "bench", help="compare pipelines on a dataset and write a report", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = bench.add_argument
    add("--dataset", nargs="+", metavar="NAME", help="names (skeeg list), datasets of MOABB, folders")
    add("--evaluation", nargs="+", metavar="NAME", help="how trials are split (skeeg list)")
    add("--n-per-class", nargs="+", type=int, metavar="N", help="labelled target trials (few-shot: 5 10 20, ...)")
    add("--pipelines", nargs="+", metavar="NAME", help="names (skeeg list), YAML files or folders of them")
    add("--param-grid", metavar="FILE", help="YAML file: {pipeline: {parameter: [values]}}")
    add("--checkpoint", nargs="+", metavar="PIPELINE=WEIGHTS", help="weights to start from: FILE, skeeg:NAME, hub:...")
    add("--subjects", nargs="+", metavar="S", help="subjects to use, as 1 2 5-9 (all)")
    _add_trials(add)
    add("--scoring", nargs="+", metavar="NAME", help="roc_auc accuracy balanced_accuracy kappa f1; the first decides")
    add("--channels", nargs="+", metavar="NAME", help="channels to use (all)")
    add("--task", nargs="+", metavar="NAME", help="folder: task of its BIDS names; cross-task: EXECUTED IMAGINED")
    add("--pattern", metavar="REGEX", help="folder: other paths, with the groups subject, session and run")
    add("--runs-as-sessions", action="store_true", default=None, help="folder: each run counts as a session")
    add("--band", nargs=2, type=float, metavar=("LOW", "HIGH"), help="pass band in Hz (imagery: 8 32)")
    add("--resample", type=float, metavar="HZ", help="sampling rate in Hz (the recording's)")
    add("--seeds", nargs="+", type=int, metavar="N", help="each repeats everything (0; downstream: 666 667 668)")
    add("--jobs", type=int, metavar="N", help="processes (all cores, up to four; one where there is CUDA; 0: none)")
    add("--cluster", metavar="ADDRESS", help="Dask: local:N for N worker processes, or a scheduler as tls://HOST:PORT")
    add("--device", metavar="NAME", help="device of the networks, as cpu or cuda (each pipeline's own)")
    add("--out", default="skeeg-results", metavar="FOLDER", help="where results and report go (skeeg-results)")
    add("--overwrite", action="store_true", help="compute again what is already there")
    add("--quiet", action="store_true", help="no progress bar")
    bench.set_defaults(action=bench_command)


def _add_trials(add):
    """Options on the trials, of both commands."""
    add("--classes", nargs="+", metavar="EVENT", help="events to use (all); of a folder also as EVENT=CLASS")
    add("--tmin", type=float, metavar="S", help="first second of a trial after its event (the dataset's; folder: 0)")
    add("--tmax", type=float, metavar="S", help="last second of a trial after its event (the dataset's)")
    add("--unit", choices=["V", "mV", "uV"], help="folder: unit of files that state none (V)")
    add("--notch", nargs="+", type=float, metavar="HZ", help="folder: frequencies to remove, such as the mains (none)")


def _add_pretrain(commands):
    """Options of ``skeeg pretrain``."""
    pretrain = commands.add_parser("pretrain", help="pre-train a network on recordings of your own")
    add = pretrain.add_argument
    add("--method", choices=["mirepnet"], default="mirepnet", help="what to pre-train (mirepnet)")
    add("--data", required=True, metavar="NAME", help="folder of recordings, or a dataset's name (skeeg list)")
    _add_trials(add)
    add("--band", nargs=2, type=float, default=(8.0, 30.0), metavar=("LOW", "HIGH"), help="pass band in Hz (8 30)")
    add("--size", choices=["small", "published"], default="small", help="size of the network (small)")
    add("--epochs", type=int, metavar="N", help="passes over the trials (6)")
    add("--held-out", type=float, default=0.1, metavar="SHARE", help="share of the subjects to validate on (0.1)")
    add("--seed", type=int, default=0, metavar="N", help="seed (0)")
    add("--device", default="auto", metavar="NAME", help="as cpu or cuda (CUDA where there is one)")
    add("--out", default="skeeg-weights", metavar="FOLDER", help="where weights, card and curve go (skeeg-weights)")
    add("--quiet", action="store_true", help="no progress bar")
    pretrain.set_defaults(action=pretrain_command)


def pretrain_command(options):
    """Run ``skeeg pretrain``; give the exit status."""
    from .bench.catalogue import get_dataset, is_folder
    from .methods.mirepnet import pretrain_weights

    interval = _interval(options, is_folder(options.data))
    given = {"classes": _classes(options), "interval": interval, "unit": options.unit, "notch": options.notch}
    dataset = get_dataset(options.data, **{name: value for name, value in given.items() if value is not None})
    card = pretrain_weights(
        dataset, options.out, options.size, tuple(options.band), options.held_out, options.epochs, options.seed,
        options.device, verbose=not options.quiet,
    )  # fmt: skip
    print(f"{card['data']}: " + ", ".join(f"{name} {value:.3f}" for name, value in card["scores"].items()))
    print(f"Weights: {os.path.join(options.out, card['file'])}")
    return DONE


def _classes(options):
    """Events as a dict where a folder's are given as EVENT=CLASS."""
    if options.classes and all("=" in name for name in options.classes):
        return dict(name.split("=", 1) for name in options.classes)
    return options.classes


def bench_command(options):
    """Run ``skeeg bench``; give the exit status."""
    from .bench import catalogue, runner
    from .bench.jobs import dask_cluster

    checkpoints = _checkpoints(options.checkpoint)
    datasets, evaluations = runner.plan(options.dataset, options.evaluation, options.pipelines)
    if options.pipelines:  # names first: a folder takes time to read
        estimators = catalogue.get_pipelines(options.pipelines)[0]
        catalogue.get_grid(options.param_grid, estimators)
        catalogue.set_checkpoints(estimators, checkpoints)
    names = ("pipelines", "param_grid", "n_per_class", "seeds", "device", "out", "command")
    settings = {name: vars(options)[name] for name in names}
    settings |= {"checkpoints": checkpoints, "jobs": choose_jobs(options)}
    settings["subjects"] = expand_subjects(options.subjects)
    benchmarks = []
    for evaluation in evaluations:
        for dataset in datasets:
            made, paradigm = _get_task(options, dataset, evaluation)
            benchmarks.append(runner.Benchmark(made, evaluation, paradigm=paradigm, **settings))
    with dask_cluster(options.cluster) if options.cluster else contextlib.nullcontext():
        outcomes = runner.run_all(benchmarks, options.overwrite, progress=not options.quiet)
    return max(map(_tell, outcomes))


def _checkpoints(given):
    """Weights by name of the pipeline, from PIPELINE=WEIGHTS."""
    for one in given or []:
        if "=" not in one:
            raise ValueError(f"checkpoint: got {one!r}, expected PIPELINE=WEIGHTS.")
    return dict(one.split("=", 1) for one in given or [])


def _tell(outcome):
    """Print what came of a comparison; give its exit status."""
    entry = outcome.entry
    print(f"\n{entry['name']}, {entry['evaluation']}")
    print(_table(entry, outcome.table))
    print(f"\nReport: {outcome.report}")
    for name, message in outcome.failed().items():
        print(f"{name} failed: {as_options(message)}", file=sys.stderr)
    if entry["interrupted"]:
        print(f"Stopped: completed {entry['done']} of {entry['planned']} results. The same command continues.")
        return INTERRUPTED
    return FAILED if entry["failures"] else DONE


def _get_task(options, dataset, evaluation):
    """Dataset and paradigm; options about trials go to the one that reads a folder, else to MOABB's paradigm."""
    from .bench import catalogue

    in_folder = catalogue.is_folder(dataset)
    shape = {"classes": options.classes, "interval": _interval(options, in_folder), "channels": options.channels}
    names = ("unit", "notch", "pattern", "runs_as_sessions")
    own = {name: vars(options)[name] for name in names if vars(options)[name] is not None}
    if in_folder:
        own, shape = own | shape | {"classes": _classes(options)}, {}
    tasks = options.task or []
    if evaluation == "cross-task":
        dataset = catalogue.get_tasks(dataset, tasks, **own)
    else:
        dataset = catalogue.get_dataset(dataset, **own | ({"task": tasks[-1]} if tasks else {}))
    shape |= {"scoring": options.scoring, "evaluation": evaluation}
    return dataset, catalogue.get_paradigm(dataset, band=options.band, resample=options.resample, **shape)


def _interval(options, in_folder):
    """First and last second of a trial, None where neither is given."""
    if options.tmin is None and options.tmax is None:
        return None
    if options.tmax is None and in_folder:
        raise ValueError("tmax: --tmin needs it for a folder.")
    return options.tmin or 0.0, options.tmax


_ARGUMENTS = {
    "interval=(start, end) in seconds": "--tmin and --tmax",
    "interval:": "--tmin, --tmax:",
    "folder:": "--dataset:",
    "unit='uV'": "--unit uV",
    "classes=": "--classes",
    "pattern=": "--pattern",
    "n_per_class:": "--n-per-class:",
    "n_target:": "--n-per-class:",
}


def as_options(message):
    """Name the options of the command in a message that names arguments of Python."""
    for argument, option in _ARGUMENTS.items():
        message = re.sub(rf"(?<![\w/]){re.escape(argument)}", option, message)  # not within a path
    parsed = vars(build_parser().parse_args(["bench"])) | vars(build_parser().parse_args(["pretrain", "--data", ""]))
    name, colon, rest = message.partition(":")
    return f"--{name.replace('_', '-')}:{rest}" if colon and name in parsed else message


def list_names(options):
    """Run ``skeeg list``; give the exit status."""
    from .baselines import pipeline_files
    from .bench.catalogue import DATASETS, EVALUATIONS

    groups = {
        "datasets": {name: one["about"] for name, one in DATASETS.items()}
        | {"<name>": "any dataset of MOABB, as BNCI2014_001", "<folder>": "recordings of your own, BIDS or epochs"},
        "pipelines": {name: content.get("description", "") for name, content in pipeline_files().items()}
        | {"<file>.yml": "a pipeline of your own, in MOABB's YAML layout"},
        "evaluations": {name: one["about"] for name, one in EVALUATIONS.items()},
    }
    for group, names in groups.items():
        width = min(max(map(len, names)), 48)
        print(f"{group}:")
        for name, about in names.items():
            print(f"  {name:<{width}}  {about}")
        print()
    return DONE


def report_again(options):
    """Run ``skeeg report``; give the exit status."""
    from .bench import write_figures, write_report

    print(f"Report: {write_report(options.folder)}")
    for path in write_figures(options.folder, options.figures) if options.figures else []:
        print(path)
    return DONE


def expand_subjects(names):
    """Write out the ranges among names of subjects."""
    if names is None:
        return None
    subjects = []
    for name in names:
        ends = re.fullmatch(r"(\d+)-(\d+)", name)
        subjects += map(str, range(int(ends[1]), int(ends[2]) + 1)) if ends else [name]
    return subjects


def choose_jobs(options):
    """Give the number of processes: as given, else that of the cores up to four, or one where networks share a GPU."""
    if options.jobs is not None:
        return options.jobs
    import torch
    from joblib import cpu_count

    return 1 if torch.cuda.is_available() and options.device != "cpu" else min(4, cpu_count())


def _table(entry, scores):
    """Scores for the terminal, as in the report."""
    import pandas as pd

    from .bench.catalogue import SCORES
    from .bench.report import score_table
    from .bench.statistics import summarise

    if not len(scores):
        return "No score."
    shown = {"entry": entry, "summary": summarise(scores), "score": SCORES.get(entry["scoring"], "Score")}
    header, *rows = score_table(shown)
    return pd.DataFrame(rows, columns=header).set_index(header[0]).rename_axis(None).to_string()


def start():
    """Run the command ``skeeg`` in a process of its own; give the exit status."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold any bytes
    return main()


def main(arguments=None):
    """Run the command ``skeeg`` with these arguments, or the process's own; give the exit status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    options.command = shlex.join(["skeeg", *arguments])
    try:
        status = options.action(options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # `skeeg list | head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        message = str(error) if options.action is report_again else as_options(str(error))
        print(f"skeeg: {message}", file=sys.stderr)
        return WRONG
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(start())
