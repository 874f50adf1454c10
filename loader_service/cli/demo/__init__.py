"""`loader-service demo`: real pictures, a real daemon, one model trained twice; which loader kept it busy?

    digits      scikit-learn's handwritten digits as PNG files in class folders
    keras_feed  the same pictures, the way Keras loads them itself
    training    the model, the clock around both loaders, the epochs
    report      the table, the picture, the JSON object

Everything that it needs lies in one temporary folder: pictures, the daemon's address, the caches of its libraries. A
daemon that runs already may be a container with other folders: `--keep` says where both of them see the pictures.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from loader_service.cli.options import JsonOption, ask_status
from loader_service.protocol.address import Address
from loader_service.protocol.errors import LoaderError
from loader_service.protocol.launch import end, launch
from loader_service.protocol.messages import GetStatus

EXAMPLES = (
    "loader-service demo",
    "loader-service demo --epochs 3 --output digits.png",
)
PATIENCE = 10.0  # seconds for a running daemon to answer
NEEDED = {"tensorflow": "tensorflow", "keras": "keras", "sklearn": "scikit-learn", "matplotlib": "matplotlib"}


def demo(
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each of the two trainings.")] = 12,
    workers: Annotated[
        int, typer.Option(min=1, help="Worker processes, for either loader; with --address, as many as the daemon has.")
    ] = 2,
    output: Annotated[Path, typer.Option(help="Where the picture with the curves goes.")] = Path("demo.png"),
    address: Annotated[
        str | None,
        typer.Option(
            help="Train with batches of the running daemon at this address. Default: one of the demo's own.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Write the digits into this folder, and leave them there.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a small network on handwritten digits, fed by a daemon and by Keras' own loader; compare the two."""
    _check_installed()
    if address is not None:
        workers = ask_status(Address.parse(address), GetStatus(), PATIENCE)["workers_wanted"]
    output = output.absolute()
    if not output.parent.is_dir():
        raise LoaderError(f"--output {str(output)!r}: there is no folder {str(output.parent)!r}")
    console = Console(stderr=True)
    with _ended_by_signals(), tempfile.TemporaryDirectory(prefix="loader-demo-") as name:
        scratch = Path(name)
        _keep_caches_out_of_home(scratch)
        with console.status("loading TensorFlow"), _silenced():
            from loader_service.cli.demo import digits, report, training

            pictures = digits.write_pictures(keep.absolute() if keep else scratch / "digits")
            training.prepare_keras_workers()
        with contextlib.nullcontext(address) if address else _daemon(f"ipc://{scratch}/daemon", workers) as where:
            if not as_json:
                console.print(f"{pictures.count:,} pictures of digits; a daemon at {where}", soft_wrap=True)
            trainings = training.train_both(pictures, where, epochs, workers, console)
        report.draw(trainings, output)
    if as_json:
        print(json.dumps(report.as_plain(trainings, pictures, epochs=epochs, workers=workers, output=output)))
    else:
        report.show(trainings, output, Console(highlight=False))


def _check_installed() -> None:
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise LoaderError(
            f"the demo trains a real network, and needs {', '.join(missing)}: pip install 'loader-service[demo]'"
        )


def _keep_caches_out_of_home(scratch: Path) -> None:
    """Leave no file of Keras and matplotlib in the user's home, nor read one from there."""
    os.environ["KERAS_HOME"] = os.devnull  # no folder: Keras goes on without its file
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["MPLCONFIGDIR"] = str(scratch)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Have Ctrl-C and SIGTERM leave all blocks, and end this process without a traceback.

    What a signal raises in the middle of Keras or TensorFlow comes out of them as any kind of error.
    """
    came: list[int] = []

    def leave(number: int, frame: object) -> None:
        came.append(number)
        if len(came) == 1:  # the second one must not break what the first one has set going
            raise KeyboardInterrupt

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except BaseException:
        if came:
            raise typer.Exit(128 + came[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Keep stderr quiet: TensorFlow's C++ code writes to it while it is imported, whatever its log level is."""
    sys.stderr.flush()
    ours = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            said.seek(0)
            os.write(ours, said.read())
            raise
        finally:
            os.dup2(ours, 2)
            os.close(ours)


@contextlib.contextmanager
def _daemon(address: str, workers: int) -> Iterator[str]:
    """Run a daemon for the length of the block, as `loader-service start --detach` does; return its address.

    It also ends when this process is killed: `--owner`.
    """
    options = ["--workers", str(workers), "--owner", str(os.getpid()), "--log-level", "WARNING"]
    process, _ = launch(Address.parse(address), options)
    try:
        yield address
    finally:
        end(process)
