"""A job's repositories: opened by what its ticket says, and rid of the locks of a mover that was killed."""

from datetime import datetime

import structlog

from holdfast.core.clock import MachineTime
from holdfast.core.errors import HoldfastError
from holdfast.core.settings import StorageSettings
from holdfast.job.protocol import Host, RepositoryAccess, Ticket
from holdfast.repository.repository import Repository
from holdfast.vault.storage import Below, open_storage

log = structlog.get_logger()


def open_repository(access: RepositoryAccess, host: Host, machine: MachineTime) -> Repository:
    """Open a repository of a ticket.

    Raises:
        HoldfastError: it is not there, the password is not its own, or its storage cannot be reached.
    """
    settings = StorageSettings("job", access.storage_url, fault_domain="", options=access.storage_options)
    storage = Below(open_storage(settings), access.path)
    return Repository.open(storage, access.password, host_id=host.name, machine=machine)


def remove_locks_of_the_dead(
    ticket: Ticket, process: int, host: Host, machine: MachineTime, *, before: datetime
) -> None:
    """Remove the locks that a mover of this host left when it was killed.

    `before` is when it had been seen to be gone: a later process may have its number, and what that holds stays. Where
    a repository cannot be reached its locks stay too, until they are stale.
    """
    accesses = [ticket.repository] + ([] if ticket.copy is None else [ticket.copy.source])
    for access in accesses:
        try:
            repository = open_repository(access, host, machine)
            removed = repository.remove_locks_of(process, before=before)
        except HoldfastError as error:
            log.warning("job.lock_left", job=ticket.job_id, process=process, reason=str(error))
        else:
            log.info("job.locks_removed", job=ticket.job_id, process=process, locks=[lock.id for lock in removed])
