"""Where everything is put together, once: the parts of one running installation, and how they start and stop."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import structlog

from holdfast import __version__
from holdfast.core.clock import Clock, MachineTime
from holdfast.core.outgoing import Outgoing
from holdfast.core.seal import RootKey
from holdfast.core.settings import Mode, Settings
from holdfast.database.connection import Database
from holdfast.database.facts import OPERATOR, recalled
from holdfast.database.outbox import handle_news
from holdfast.database.schema import upgrade
from holdfast.database.state import StateKeeper
from holdfast.job.supervisor import Supervisor
from holdfast.monitor.counting import fold_all
from holdfast.monitor.delivery import Deliverer
from holdfast.monitor.incidents import close_what_is_gone
from holdfast.monitor.routing import forward
from holdfast.recovery.cold import ColdMover
from holdfast.recovery.guard import why_stopped
from holdfast.recovery.housekeeping import Housekeeper
from holdfast.repository.storage import Storage
from holdfast.schedule.service import Ticked, tick
from holdfast.server import news
from holdfast.server.authorize import Authorizer
from holdfast.server.configuration import Configuration
from holdfast.server.departures import let_closed_accounts_go
from holdfast.server.dev import json_reply
from holdfast.server.dispatch import Dispatcher
from holdfast.server.duties import Duty, host_of
from holdfast.server.handlers import HANDLERS
from holdfast.server.loops import Loop, Loops
from holdfast.server.sign_in import sign_in
from holdfast.server.upkeep import keep_keys
from holdfast.trail.model import TrailKey
from holdfast.trail.reads import Reads
from holdfast.trail.sealing import DIRECTORY, Sealer
from holdfast.trail.strangers import Strangers
from holdfast.vault.custody import Custody
from holdfast.vault.storage import Below, open_storage
from holdfast.wire.application import Application, Route
from holdfast.wire.application import Settings as DoorSettings
from holdfast.wire.call import Instance
from holdfast.wire.message import HttpReply, HttpRequest
from holdfast.wire.paging import PageTokens

log = structlog.get_logger()

_SCHEDULE_SECONDS: Final = 1.0
_NEWS_SECONDS: Final = 0.5
_HOUSEKEEPING_SECONDS: Final = 60.0
_SEALING_SECONDS: Final = 1.0
_COUNTING_SECONDS: Final = 5.0
_STATE_SECONDS: Final = 60.0


@dataclass
class Holdfast:
    """One running installation."""

    instance: Instance
    custody: Custody
    housekeeper: Housekeeper
    cold_mover: ColdMover
    supervisor: Supervisor
    sealer: Sealer
    reads: Reads
    strangers: Strangers
    operator: str
    """The account of whoever runs the installation; empty where there is none yet."""
    state_keeper: StateKeeper | None
    authorizer: Authorizer
    application: Application
    deliverer: Deliverer
    _loops: Loops | None = field(default=None)

    def start(self) -> None:
        """Start everything that works beside the requests; jobs that a former process left are taken up again."""
        self.supervisor.start()
        self.cold_mover.start()
        self.deliverer.start()
        instance = self.instance
        keeper = self.state_keeper
        self._loops = Loops(
            instance.machine,
            [
                Loop("schedule", _SCHEDULE_SECONDS, self.make_due_jobs),
                Loop("jobs", _SCHEDULE_SECONDS, self.supervisor.tick),
                Loop("news", _NEWS_SECONDS, self._handle_news),
                Loop("housekeeping", _HOUSEKEEPING_SECONDS, self.keep_house),
                Loop("cold storage", _HOUSEKEEPING_SECONDS, self.move_to_cold),
                Loop("reconcile", news.RECONCILE_SECONDS, lambda: news.reconcile(instance.database, instance.clock)),
                Loop("trail", _SEALING_SECONDS, self.keep_trail),
                Loop("events", _NEWS_SECONDS, self._tell_receivers),
                Loop("counts", _COUNTING_SECONDS, lambda: fold_all(instance.database)),
                *([] if keeper is None else [Loop("state", _STATE_SECONDS, keeper.keep)]),
            ],
        )
        self._loops.start()

    def stop(self) -> None:
        """End it all: loops first, then jobs (which stay for the next process), then the database."""
        if self._loops is not None:
            self.cold_mover.stop()
            self._loops.stop()
            self._loops = None
        self.deliverer.stop()
        self.supervisor.stop()
        self.authorizer.note_usage()
        self.keep_trail()

    def close(self) -> None:
        """Let go of the threads that answer requests and of the database."""
        self.application.close()
        self.instance.database.close()

    def make_due_jobs(self) -> Ticked:
        """Make the jobs of every run that is due now."""
        return tick(self.instance.database, now=self.instance.clock.now())

    def keep_trail(self) -> None:
        """Write down the reads and the refusals that wait, and seal what is not sealed."""
        instance = self.instance
        database, region, now = instance.database, instance.settings.default_region, instance.clock.now()
        while self.reads.write(database, account=self.operator, region=region, now=now):
            pass
        monotonic = instance.machine.monotonic()
        self.strangers.write(database, account=self.operator, region=region, now=now, monotonic=monotonic)
        self.sealer.run()

    def _handle_news(self) -> int:
        instance = self.instance
        handlers = news.handlers(instance.database, instance.clock)
        return handle_news(instance.database, handlers, now=instance.machine.now())

    def move_to_cold(self) -> None:
        """Move what is due to cold storage; it may take long, so nothing else waits for it."""
        self.cold_mover.move_due(now=self.instance.clock.now())

    def _tell_receivers(self) -> None:
        instance = self.instance
        forward(instance.database, now=instance.clock.now(), machine_now=instance.machine.now())
        self.deliverer.tick()

    def keep_house(self) -> None:
        """Do what time makes due: points expire and are purged, closed accounts leave, keys rotate or go."""
        now = self.instance.clock.now()
        self.housekeeper.keep(now=now)
        let_closed_accounts_go(self.instance.database, now=now)
        close_what_is_gone(self.instance.database, now=now)
        keep_keys(self.instance, now=now)
        self.authorizer.note_usage()


def assemble(
    configuration: Configuration,
    *,
    root_key: RootKey,
    recovery_key: bytes | None,
    clock: Clock,
    machine: MachineTime,
    executor: str = "serve",
) -> Holdfast:
    """Put the parts of an installation together; nothing runs until `start`.

    Raises:
        UnknownSchemaError: the database was written by a later release.
    """
    settings = configuration.settings
    database = Database.open(configuration.database_url)
    upgrade(database)
    instance = Instance(
        settings=settings,
        root_key=root_key,
        clock=clock,
        machine=machine,
        database=database,
        tokens=PageTokens(root_key.derive("page tokens")),
    )
    custody = Custody(settings, root_key, recovery_key)
    duty = Duty(instance, custody)
    supervisor = Supervisor(
        database,
        settings,
        clock=clock,
        machine=machine,
        duties=duty.duties(),
        host=host_of(settings),
        executor=executor,
    )
    authorizer = Authorizer(instance)
    reads, strangers = Reads(), Strangers()
    application = Application(
        Dispatcher(instance, authorizer, HANDLERS, reads),
        machine_time=machine,
        settings=DoorSettings(is_region=settings.regions.__contains__, default_region=settings.default_region),
        strangers=strangers.note,
        routes={"/_holdfast/health": _health(instance), "/_holdfast/": _unknown},
    )
    application.add_route("/_holdfast/signin", partial(sign_in, instance), own_pages=True)
    sealer = Sealer(database, trail_storage(settings), TrailKey.of(root_key), machine)
    with database.reading() as tx:
        operator = recalled(tx, OPERATOR) or ""
    keeper = None
    if settings.state_storage is not None:
        place = state_storage(settings)
        keeper = StateKeeper(
            database, place, root_key, machine, settings.state_every, lambda tx: why_stopped(tx) is None
        )
    housekeeper = Housekeeper(database, custody, machine)
    cold_mover = ColdMover(database, custody, machine, housekeeper.note_forgotten)
    return Holdfast(
        instance,
        custody,
        housekeeper,
        cold_mover,
        supervisor,
        sealer,
        reads,
        strangers,
        operator,
        keeper,
        authorizer,
        application,
        Deliverer(database, Outgoing(machine, settings.outgoing, settings.authorities), root_key),
    )


def trail_storage(settings: Settings) -> Storage:
    """Return where the sealed blocks of the audit trail lie: in the storage of the default region."""
    region = settings.default_region
    found = settings.storage_of(region) if region in settings.regions else next(iter(settings.storages.values()))
    return Below(open_storage(found), DIRECTORY)


def state_storage(settings: Settings) -> Storage:
    """Return where copies of the control database go: as configured, else to the storage of the default region."""
    usual = settings.storage_of(settings.default_region)
    return open_storage(usual if settings.state_storage is None else settings.storages[settings.state_storage])


def _unknown(request: HttpRequest) -> HttpReply:
    return json_reply(404, {"error": f"there is nothing at {request.path} on this server"})


def _health(instance: Instance) -> Route:
    def health(request: HttpRequest) -> HttpReply:
        if request.method not in {"GET", "HEAD"}:
            return json_reply(405, {"error": "send a GET request"})
        body: dict[str, Any] = {"status": "ok", "version": __version__, "mode": instance.settings.mode.value}
        if instance.settings.mode is Mode.DEV:
            body["now"] = instance.clock.now().isoformat()
        return json_reply(200, body)

    return health
