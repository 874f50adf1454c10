"""Users' functions and classes, named by import path: what travels is "module:attribute" and a folder.

A lambda, a function inside a function, or one of the running script has no such name. That is said before anything
starts, with its file and line, and with what to do.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler
from pydantic_core import CoreSchema

from loader_service.protocol.errors import DatasetError, LoaderError

NAME = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$"

_imported: dict[str, str] = {}  # module -> hash of the source that it was imported from, in this process


class UserCode(BaseModel):
    """An import path, and the folder that its module is found in when that is no installed package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=NAME)]
    root: str | None = None

    @property
    def module(self) -> str:
        """The module's dotted name."""
        return self.name.partition(":")[0]

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema of what stands in a file: the name alone, from which catalog.py finds the folder."""
        return {"type": "string", "pattern": NAME, "description": 'An import path: "module:attribute".'}

    @classmethod
    def of(cls, target: str | Callable[..., Any]) -> UserCode:
        """Return how workers will find `target`, a "module:attribute" or something importable.

        Raises:
            DatasetError: If workers could not import it.
        """
        name = target if isinstance(target, str) else _import_path(target)
        if not re.match(NAME, name):
            raise DatasetError(f'{name!r} is no import path: expected "module:attribute", as in "augment:noise"')
        return cls(name=name, root=_root_of(name.partition(":")[0], name))

    def load(self) -> Any:
        """Import the module, and return the attribute.

        Raises:
            DatasetError: If either cannot be had; the import's own error is the cause.
        """
        module_name, attribute = self.module, self.name.partition(":")[2]
        try:
            found: Any = self._module(module_name)
        except Exception as error:
            raise DatasetError(f"{self.name!r}: module {module_name!r} cannot be imported: {error!r}") from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise DatasetError(f"{self.name!r}: module {module_name!r} has no attribute {attribute!r}")
            found = getattr(found, part)
        return found

    def _module(self, name: str) -> ModuleType:
        """Return the module as its source is now.

        Workers outlive edits and serve many projects: what was imported before its file changed, or is another
        project's module of the same name, is imported anew, with the whole package around it.
        """
        digest, present = self.digest(), sys.modules.get(name)
        if present is not None and self._is_from_root(present) and _imported.setdefault(name, digest) == digest:
            return present
        package = name.partition(".")[0]
        for other in [other for other in sys.modules if other == package or other.startswith(f"{package}.")]:
            del sys.modules[other]
        if self.root is not None:
            sys.path[:] = [self.root, *(folder for folder in sys.path if folder != self.root)]
        _drop_stale_bytecode(_origin(name, self.root))
        importlib.invalidate_caches()
        _imported[name] = digest
        return importlib.import_module(name)

    def _is_from_root(self, module: ModuleType) -> bool:
        return self.root is None or Path(module.__file__ or "") == _origin(module.__name__, self.root)

    def digest(self) -> str:
        """Return the hash of the module's source: changed code makes another dataset."""
        origin = _origin(self.module, self.root)
        if origin is None or not origin.is_file():
            return "no source"
        return hashlib.blake2b(origin.read_bytes(), digest_size=16).hexdigest()


def _drop_stale_bytecode(origin: Path | None) -> None:
    """Have Python compile a module that was edited in the very second in which it was imported: it compares seconds."""
    if origin is not None:
        with contextlib.suppress(OSError):  # there is none; or it is not ours to remove, as in an installed package
            compiled = Path(importlib.util.cache_from_source(str(origin)))
            if compiled.stat().st_mtime_ns <= origin.stat().st_mtime_ns:
                compiled.unlink()


def _import_path(target: Callable[..., Any]) -> str:
    """Return "module:attribute" of a function or class."""
    module = getattr(target, "__module__", None)
    attribute = getattr(target, "__qualname__", None)
    if module is None or attribute is None:
        raise DatasetError(
            f"{target!r} has no import path, so workers cannot find it: "
            'write a function in a module, and name it: .map("augment:noise")'
        )
    where = f"{attribute!r} ({file_and_line(target)})"
    if "<lambda>" in attribute:
        raise DatasetError(
            f"{where} is a lambda, which workers cannot import: write it as a function in a module, "
            'for example augment.py, and name it: .map("augment:noise")'
        )
    if "<locals>" in attribute:
        raise DatasetError(
            f"{where} is defined inside a function, so workers cannot import it: move it to the top level of a module."
        )
    if module == "__main__":
        raise DatasetError(
            f"{where} is defined in the script or notebook that is running, which workers do not import: "
            f'move it into a module, for example augment.py, and name it: .map("augment:{attribute}")'
        )
    found: Any = reduce(lambda part, name: getattr(part, name, None), attribute.split("."), sys.modules.get(module))
    if found != target:
        raise DatasetError(
            f"{where} is not what a worker would find as {module}:{attribute}: "
            "give a function that stands by that name at the top level of its module."
        )
    return f"{module}:{attribute}"


def file_and_line(target: Any) -> str:
    """Return where a function is defined, or the class of an object."""
    try:
        code = inspect.unwrap(target).__code__
        return f"{code.co_filename}, line {code.co_firstlineno}"
    except AttributeError:
        kind = target if isinstance(target, type) else type(target)
    try:
        return f"{inspect.getfile(kind)}, line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        return "file unknown"


def _origin(module: str, root: str | None) -> Path | None:
    """Return the file of a module, without importing it (its parent packages are)."""
    if root is not None:
        path = Path(root, *module.split("."))
        for candidate in (path.with_suffix(".py"), path / "__init__.py"):
            if candidate.is_file():
                return candidate
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
    return Path(found.origin) if found is not None and found.origin else None


def _root_of(module: str, name: str) -> str | None:
    """Return the folder to put on a worker's path; None for what any interpreter of this installation finds."""
    if module == "__main__":
        raise DatasetError(
            f"{name!r} is in the script or notebook that is running, which workers do not import: "
            "move it into a module, for example augment.py"
        )
    try:
        found = importlib.util.find_spec(module)
    except (ImportError, ValueError) as error:
        raise DatasetError(f"{name!r}: module {module!r} cannot be found: {error}") from error
    if found is None:
        raise DatasetError(
            f"{name!r}: there is no module {module!r} on this interpreter's path: "
            "is it misspelt, or in a folder that is not on PYTHONPATH?"
        )
    if not found.origin or found.origin in ("built-in", "frozen"):
        return None
    origin = Path(found.origin).absolute()
    depth = module.count(".") + (1 if origin.name == "__init__.py" else 0)
    root = origin.parents[depth]
    return None if "site-packages" in root.parts or root == Path(inspect.__file__).parent else str(root)


def digest_of_own(module: str) -> str:
    """Return the hash of a user's module; nothing of one that is installed, or Python's own."""
    try:
        root = _root_of(module, f"{module}:_")
    except DatasetError:
        return ""  # the running script, or a module that is no file
    return UserCode(name=f"{module}:_", root=root).digest() if root is not None else ""


def explained(error: Exception) -> LoaderError:
    """Return what the user will see; our own errors say all themselves, others bring their traceback."""
    if isinstance(error, LoaderError):
        return error
    found = DatasetError(f"{type(error).__name__}: {error}")
    found.add_note("".join(traceback.format_exception(error)))
    return found
