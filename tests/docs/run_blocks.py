"""Run the code blocks of one Markdown file, from top to bottom, in the current folder.

    python blocks   run in one namespace; one that begins with `# NAME.py` is written to that file instead
    toml blocks     begin with `# NAME.toml`, and are written to that file
    shell blocks    `loader-service` and `python` lines are run, `make` and `pip` lines are left out, others refused;
                    `> FILE` at the end of a line goes where a shell would let it go

`loader-service start` without `--detach` goes on in the background; Ctrl-C ends it after the last block.
"""

import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

BLOCK = re.compile(r"^```(python|shell|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.(?:py|toml))\n")
PATIENCE = 60  # seconds


def main(markdown):
    text = markdown.read_text()
    namespace = {"__name__": "__main__"}
    foreground = []
    sys.path.insert(0, "")
    for block in BLOCK.finditer(text):
        language, code = block.groups()
        line = text.count("\n", 0, block.start()) + 1
        name = FILE.match(code)
        began = time.perf_counter()
        if language == "shell":
            run_shell(code, foreground)
        elif name:
            Path(name[1]).write_text(code)
        else:
            exec(compile("\n" * line + code, str(markdown), "exec"), namespace)
        print(f"{markdown.name}:{line}: {time.perf_counter() - began:.1f} s", flush=True)
    for process in foreground:
        process.send_signal(signal.SIGINT)
        await_end(process)


def await_end(process):
    assert process.wait(PATIENCE) == 0, f"{process.args} ended with {process.returncode}"


def run_shell(code, foreground):
    for line in code.splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] in ("make", "pip"):
            continue
        if words[0] == "python":
            words[0] = sys.executable
        elif words[0] != "loader-service":
            raise ValueError(f"{line!r}: a test of the docs runs only loader-service and python")
        if "start" in words and "--detach" not in words:
            process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
            assert process.stdout.readline().startswith("ready"), line
            foreground.append(process)
        else:
            words, file = (words[:-2], words[-1]) if words[-2:-1] == [">"] else (words, None)
            with open(file, "w") if file else nullcontext() as output:
                subprocess.run(words, check=True, timeout=PATIENCE, stdout=output)
        if words[1:2] == ["stop"] and foreground:
            await_end(foreground.pop())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
