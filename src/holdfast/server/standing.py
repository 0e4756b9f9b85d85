"""Whether the control database of a data directory can be served: it is there, whole, up to date and not moved away."""

from pathlib import Path
from typing import Final

from holdfast.core.errors import InvalidStateError, NotFoundError
from holdfast.database.connection import Database
from holdfast.database.facts import recalled
from holdfast.database.move import refuse_if_moved
from holdfast.database.schema import current, pending
from holdfast.recovery.rekey import is_unfinished, refuse_other_root_key

RESTORING: Final = "restoring state"
"""The fact that names the state which is being brought back into a database, until that is done."""

_SQLITE: Final = "sqlite:///"


class NoDatabaseError(NotFoundError):
    """A data directory has no control database."""


class RestoreInterruptedError(InvalidStateError):
    """Bringing a state back was begun and not finished."""


class RekeyInterruptedError(InvalidStateError):
    """Changing the root key was begun and not finished."""


class UpgradeNeededError(InvalidStateError):
    """A database has the schema of an earlier release."""


def being_restored(place: Path) -> Path:
    """Return where the database that will take the place of `place` is made ready."""
    return place.with_name(f"{place.name}.restoring")


def refuse_unfit(database_url: str, root_key_id: str, *, may_be_new: bool = False) -> None:
    """Refuse to serve a database that is not there, half restored, moved elsewhere, or of another release.

    `may_be_new` is for development servers, which make and upgrade theirs as they start.

    Raises:
        NoDatabaseError: there is none.
        RestoreInterruptedError: a restore was interrupted.
        DatabaseMovedError: it was moved to another place.
        UpgradeNeededError: it has to be upgraded first.
        UnknownSchemaError: a later release wrote it.
        OtherRootKeyError: it is sealed under another root key.
        RekeyInterruptedError: changing the root key was not finished.
    """
    if database_url.startswith(_SQLITE):
        place = Path(database_url.removeprefix(_SQLITE))
        ready = being_restored(place)
        if ready.exists():
            raise RestoreInterruptedError(
                f"bringing a state back was interrupted: run `holdfast state restore --replace` again, or remove "
                f"{ready} to go on with the database as it is"
            )
        if not place.exists():
            if may_be_new:
                return
            raise NoDatabaseError(
                f"there is no database at {place}; bring it back with `holdfast state restore`, or with `holdfast "
                "rebuild` where no state was saved"
            )
    database = Database.open(database_url)
    try:
        if current(database) is None:
            if may_be_new:
                return
            raise NoDatabaseError(
                f"the database at {database.url} is empty; fill it with `holdfast state restore` or `holdfast "
                "rebuild`, or move the present one there with `holdfast database move`"
            )
        waiting = pending(database)
        if waiting and not may_be_new:
            raise UpgradeNeededError(
                f"the database must be upgraded to schema {waiting[-1]}: run `holdfast upgrade --apply`, which saves a "
                "state first"
            )
        refuse_if_moved(database)
        with database.reading() as tx:
            refuse_other_root_key(tx, root_key_id)
            state, rekeying = recalled(tx, RESTORING), is_unfinished(tx)
    finally:
        database.close()
    if rekeying:
        raise RekeyInterruptedError("changing the root key was interrupted; run `holdfast rekey` again, which goes on")
    if state is not None:
        raise RestoreInterruptedError(
            f"bringing state {state} back was interrupted; run `holdfast state restore --state {state}` again"
        )
