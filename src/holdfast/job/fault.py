"""Where a failure lies, as far as the error itself tells."""

from holdfast.core.errors import DamagedError
from holdfast.job.model import Fault
from holdfast.repository.key_file import NoRepositoryError
from holdfast.repository.storage import StorageDeniedError, StorageFailedError
from holdfast.source.protocol import SourceError


def fault_of(error: Exception) -> Fault:
    """Return what an error of a run says about where to look: at the source, at the storage, or nothing."""
    match error:
        case SourceError():
            return Fault.SOURCE
        case StorageFailedError() | StorageDeniedError() | NoRepositoryError() | DamagedError():
            return Fault.STORAGE
        case _:
            return Fault.NOTHING
