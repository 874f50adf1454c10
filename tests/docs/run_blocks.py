"""Run the code blocks of Markdown files, from top to bottom, each file in a copy of the current folder.

They run in one process, since TensorFlow starts slowly. A file's own modules are forgotten with it.

    python blocks   run in one namespace; one that begins with `# NAME.py` is written to that file instead
    toml blocks     begin with `# NAME.toml`, and are written to that file
    shell blocks    `loader-service` and `python` lines are run, `make` and `pip` lines are left out, others refused;
                    `> FILE` at the end of a line goes where a shell would let it go

`loader-service start` without `--detach` goes on in the background; Ctrl-C ends it after the file's last block.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

BLOCK = re.compile(r"^```(python|shell|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.(?:py|toml))\n")
PATIENCE = 60  # seconds


def main(pages):
    sys.path.insert(0, "")
    readers_folder = Path.cwd()
    for page in pages:
        folder = Path(tempfile.mkdtemp(prefix=f"{page.stem}-", dir=readers_folder.parent))
        shutil.copytree(readers_folder, folder, dirs_exist_ok=True)
        os.chdir(folder)
        try:
            run_page(page)
        finally:
            os.chdir(readers_folder)
            shutil.rmtree(folder)
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def run_page(markdown):
    text = markdown.read_text()
    namespace = {"__name__": "__main__"}
    foreground = []
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
    main(map(Path, sys.argv[1:]))
