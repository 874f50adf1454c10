"""The training process's side of loader-service: connect, stream batches, feed Keras.

with loader_client.connect() as loader:
    stream = loader.stream(dataset)
    model.fit(stream.keras(), epochs=3)
"""

from loader_client.batch import Batch as Batch
from loader_client.loader import Loader as Loader
from loader_client.loader import connect as connect
from loader_client.stream import Stream as Stream
from loader_client.wrap import wrap as wrap
from loader_service.protocol.errors import AddressError as AddressError
from loader_service.protocol.errors import AddressInUse as AddressInUse
from loader_service.protocol.errors import BackupError as BackupError
from loader_service.protocol.errors import ConfigError as ConfigError
from loader_service.protocol.errors import DaemonLost as DaemonLost
from loader_service.protocol.errors import DaemonStopped as DaemonStopped
from loader_service.protocol.errors import DatasetError as DatasetError
from loader_service.protocol.errors import DatasetWarning as DatasetWarning
from loader_service.protocol.errors import LoaderError as LoaderError
from loader_service.protocol.errors import NoDaemon as NoDaemon
from loader_service.protocol.errors import NotEnoughMemory as NotEnoughMemory
from loader_service.protocol.errors import ProtocolError as ProtocolError
from loader_service.protocol.errors import RemoteError as RemoteError
from loader_service.protocol.errors import SampleError as SampleError
from loader_service.protocol.errors import SpecMismatch as SpecMismatch
from loader_service.protocol.errors import StreamClosed as StreamClosed
from loader_service.protocol.ragged import Ragged as Ragged
from loader_service.protocol.ragged import Text as Text

__all__ = [
    "AddressError",
    "AddressInUse",
    "BackupError",
    "Batch",
    "ConfigError",
    "DaemonLost",
    "DaemonStopped",
    "DatasetError",
    "DatasetWarning",
    "Loader",
    "LoaderError",
    "NoDaemon",
    "NotEnoughMemory",
    "ProtocolError",
    "Ragged",
    "RemoteError",
    "SampleError",
    "SpecMismatch",
    "Stream",
    "StreamClosed",
    "Text",
    "connect",
    "wrap",
]
