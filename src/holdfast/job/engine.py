"""The durable job engine: DBOS Transact on our own database, and the only module that knows it.

What it is used for: a queue per lane whose rows are written in our own transaction, and runs that a restarted process
picks up again. What it never decides: states, windows, limits, stops, takeovers; those are rows of `job`. Its input is
a job id and nothing else.

DBOS 3.4 unpickles any row that says it was pickled, whatever serializer it was configured with. Here nothing is ever
unpickled: `refuse_pickle` closes that path for the whole process, and such rows end as errors.
"""

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Self

import dbos
import sqlalchemy as sa
import structlog
from dbos import DBOS, DBOSClient, DBOSConfig
from dbos._serialization import DBOSPortableJSON, DefaultSerializer
from sqlalchemy import event

from holdfast.core.clock import MachineTime
from holdfast.core.errors import DamagedError, InvalidStateError
from holdfast.database.connection import Database
from holdfast.database.values import stamp
from holdfast.job.dispatch import Handover, Lane

log = structlog.get_logger()

APPLICATION: Final = "holdfast"
APPLICATION_VERSION: Final = "holdfast-1"
"""Changes only when a run could not go on with what an older release has put into the queue."""

WORKFLOW: Final = "job"
_POLLING_SECONDS: Final = 0.2
_SPARE_THREADS: Final = 8
_ENDED: Final = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_UNDER_WAY: Final = ["ENQUEUED", "DELAYED", "PENDING"]
PURGE_BATCH: Final = 500
"""How many ended runs are removed at a time."""

Body = Callable[[str, int], None]
"""Runs one job: takes its id and the epoch that it must still have."""


class PickleRefusedError(DamagedError):
    """A row of the job engine says that it was pickled. We write none, and none is ever opened."""


class EngineRunningError(InvalidStateError):
    """A process runs one job engine at a time."""


def refuse_pickle() -> None:
    """Make DBOS refuse to pickle and to unpickle, in the whole process."""

    def deserialize(_self: object, _serialized: str) -> Any:
        raise PickleRefusedError(
            "a row of the job engine's tables says that it was pickled; Holdfast writes none, so somebody else put it "
            "there, and it was not opened. Look for who can write to the control database"
        )

    def serialize(_self: object, data: Any) -> str:
        # Only asked for to note why such a row was refused; as text that nobody will read back.
        return json.dumps(str(data))

    DefaultSerializer.deserialize = deserialize  # type: ignore[method-assign, assignment] # the one place where DBOS unpickles
    DefaultSerializer.serialize = serialize  # type: ignore[method-assign, assignment] # and its other half


class _ToStructlog(logging.Handler):
    """Passes on what DBOS has to say, from warnings up, as events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record."""
        write = log.error if record.levelno >= logging.ERROR else log.warning
        error = record.exc_info[1] if record.exc_info else None
        write("engine.said", words=record.getMessage(), error=None if error is None else str(error))


class Engine:
    """The job engine of this process. Made by `start`, ended by `stop`."""

    def __init__(self, client: DBOSClient, own_engine: sa.Engine, machine: MachineTime) -> None:
        self._client = client
        self._engine = own_engine
        self._machine = machine
        self._never = threading.Event()

    @classmethod
    def start(
        cls, database: Database, *, executor: str, lanes: Iterable[Lane], body: Body, machine: MachineTime
    ) -> Self:
        """Start the engine on our database; what a former process of the name `executor` had left is run again.

        Raises:
            EngineRunningError: this process runs one already.
        """
        if not _running.acquire(blocking=False):
            raise EngineRunningError("this process runs a job engine already; stop it first")
        own_engine = _connect(database)
        try:
            refuse_pickle()
            _hear_dbos()
            movers = list(lanes)
            client = _lay_out(database, own_engine, movers)
            config: DBOSConfig = {
                "name": APPLICATION,
                "system_database_engine": own_engine,
                "application_version": APPLICATION_VERSION,
                "executor_id": executor,
                "serializer": DBOSPortableJSON,
                "use_listen_notify": False,
                "notification_listener_polling_interval_sec": _POLLING_SECONDS,
                "scheduler_polling_interval_sec": 3600.0,
                "max_executor_threads": sum(lane.concurrency for lane in movers) + _SPARE_THREADS,
                "log_level": "WARNING",
                "enable_otlp": False,
            }
            DBOS(config=config)

            @DBOS.workflow(name=WORKFLOW, max_recovery_attempts=100)
            def run(job_id: str) -> str:
                workflow_id = DBOS.workflow_id or ""
                _, epoch, _ = workflow_id.rsplit(":", 2)
                body(job_id, int(epoch))
                return "done"

            DBOS.launch()
        except BaseException:
            DBOS.destroy(destroy_registry=True)
            own_engine.dispose()
            _running.release()
            raise
        return cls(client, own_engine, machine)

    def hand_over(self, tx: sa.Connection, handovers: Iterable[Handover], *, machine_now: datetime) -> None:
        """Put jobs into their queues, in the open transaction: both happen or neither."""
        for number, handover in enumerate(handovers, 1):
            self._client.enqueue_in_transaction(
                tx,
                {
                    "workflow_name": WORKFLOW,
                    "queue_name": handover.queue,
                    # A second hand-over of one epoch does no harm: only one of the two will claim it.
                    "workflow_id": f"{handover.job_id}:{handover.epoch}:{stamp(machine_now)}",
                    "app_version": APPLICATION_VERSION,
                    "priority": number,
                },
                handover.job_id,
            )

    def under_way(self) -> set[tuple[str, int]]:
        """Return the jobs in the engine's hands, queued or running, each with the epoch it was handed over with."""
        rows = self._client.list_workflows(status=_UNDER_WAY, name=WORKFLOW, load_input=False, load_output=False)
        return {_job_and_epoch(row.workflow_id) for row in rows}

    def purge(self, *, before: datetime) -> int:
        """Remove rows of runs that ended before an instant (machine time); return how many."""
        rows = self._client.list_workflows(
            status=_ENDED,
            end_time=before.astimezone(UTC).isoformat(),
            limit=PURGE_BATCH,
            load_input=False,
            load_output=False,
        )
        self._client.delete_workflows([row.workflow_id for row in rows])
        return len(rows)

    def stop(self, *, patience: float = 30.0) -> None:
        """Wait for the runs, whose bodies have been told to end, and let go of every thread and connection."""
        give_up = self._machine.monotonic() + patience
        while _active_runs() and self._machine.monotonic() < give_up:
            self._machine.wait(self._never, 0.02)
        self._client.destroy()
        DBOS.destroy(destroy_registry=True)
        self._engine.dispose()
        _running.release()


_running = threading.Lock()


def _job_and_epoch(workflow_id: str) -> tuple[str, int]:
    parts = workflow_id.rsplit(":", 2)
    if len(parts) != 3 or not parts[1].isdigit():  # noqa: PLR2004 - job, epoch, moment
        return workflow_id, -1
    return parts[0], int(parts[1])


def _active_runs() -> int:
    instance = dbos._dbos._dbos_global_instance  # noqa: SLF001 - DBOS has no public way to ask, but waits in seconds
    return 0 if instance is None else len(instance._active_workflows_set.activeList())  # noqa: SLF001 - the same


def _hear_dbos() -> None:
    dbos_logger = logging.getLogger("dbos")
    dbos_logger.handlers = [_ToStructlog(logging.WARNING)]  # or it would write to stderr itself
    dbos_logger.propagate = False


def _lay_out(database: Database, own_engine: sa.Engine, lanes: Iterable[Lane]) -> DBOSClient:
    """Make the engine's tables and queues before it starts: it would notice new queues only a second later."""
    DBOS.migrate(database.engine.url.render_as_string(hide_password=False))
    client = DBOSClient(system_database_engine=own_engine, serializer=DBOSPortableJSON, application_name=APPLICATION)
    for lane in lanes:
        client.register_queue(
            lane.queue,
            worker_concurrency=lane.concurrency,
            polling_interval_sec=_POLLING_SECONDS,
            on_conflict="always_update",
        )
    return client


def _connect(database: Database) -> sa.Engine:
    """Return connections of the engine's own to our database, with the settings that DBOS needs there."""
    url = database.engine.url
    if not database.is_sqlite:
        return sa.create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True)
    connect: Mapping[str, Any] = {"check_same_thread": False, "timeout": 60}
    own_engine = sa.create_engine(url, pool_size=10, max_overflow=20, connect_args=dict(connect))

    @event.listens_for(own_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # As DBOS prepares connections that it makes itself: reading needs no lock, the first change takes it.
        connection.isolation_level = "IMMEDIATE"
        cursor = connection.cursor()
        cursor.execute("PRAGMA busy_timeout=60000")
        cursor.execute("PRAGMA foreign_keys=ON")
        # A lost row of the engine is handed over again; the truth is in our rows, and those are synced.
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.close()

    return own_engine
