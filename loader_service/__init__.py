"""Load, decode and augment training data in worker processes; hand batches over through shared memory.

`Dataset` and `Stats` are loaded when they are first used: importing this package costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loader_service.dataset.dataset import Dataset as Dataset
    from loader_service.dataset.statistics.stats import Stats as Stats

__all__ = ["Dataset", "Stats", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Dataset":
        from loader_service.dataset.dataset import Dataset

        return Dataset
    if name == "Stats":
        from loader_service.dataset.statistics.stats import Stats

        return Stats
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
