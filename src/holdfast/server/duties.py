"""What the other stations do for a job: check that it can be done, make its ticket, record and catalogue its point."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.backup_role import may_backup, may_restore
from holdfast.access.tag import tags_of
from holdfast.assessment.store import intern_class
from holdfast.core.arn import Arn
from holdfast.core.errors import DeniedError, HoldfastError, InvalidInputError, NotFoundError
from holdfast.core.settings import LOCAL_SITE, HostGrant, Mode, Settings
from holdfast.job import store as job_store
from holdfast.job.copying import copy_lifecycle, where_copy_lies
from holdfast.job.model import Category, Claim, Completed, CopyRequest, Job, Kind, Subject
from holdfast.job.origin import created_by
from holdfast.job.protocol import BackupWork, CopyWork, Host, Place, RepositoryAccess, RestoreWork, Secret, Ticket
from holdfast.job.service import start_copies_of
from holdfast.job.supervisor import Duties, Preparation, Refusal
from holdfast.plan.model.lifecycle import normal
from holdfast.plan.model.plan import Lifecycle
from holdfast.recovery import service as recovery
from holdfast.recovery import store as points
from holdfast.recovery.model import RecoveryPoint, StorageClass, point_id_of
from holdfast.recovery.service import Made, Recorded
from holdfast.server.authorize import controls_of
from holdfast.server.copying import look
from holdfast.source import service as sources
from holdfast.source.confined import own_places
from holdfast.source.grant import Purpose, granting, refuse_own
from holdfast.source.location import location, place
from holdfast.source.protocol import NotGrantedError
from holdfast.vault.custody import Custody
from holdfast.vault.model import Vault
from holdfast.vault.repositories import access_for_job, prepare_repository, repository_for
from holdfast.vault.service import find_vault_by_arn
from holdfast.vault.store import find_vault_by_id, unusable_key
from holdfast.wire.call import Instance

_BY_THE_SUPERVISOR: Final = timedelta(seconds=1)
"""Beat and silence of a ticket are the supervisor's to set."""

_REPOSITORY: Final = "repository_id"
"""Where a job's result says which repository it writes into: a new generation may begin while it runs."""

_RESTORED_INTO: Final = "restored_into"
"""Where a restore's result says which place it fills, as the place was understood when the job began."""

_COLONS_BEFORE_ACCOUNT: Final = 4


class JobRefusedError(HoldfastError):
    """A job cannot be done as things are."""

    def __init__(self, sentence: str, category: Category) -> None:
        super().__init__(sentence)
        self.category = category


def host_of(settings: Settings) -> Host:
    """Return this host as its movers are told of it: what they may touch, and Holdfast's own directories."""
    return Host(name=settings.host_id, grants=settings.host_grants, forbidden=settings.own)


@dataclass
class Duty:
    """The duties of one installation."""

    instance: Instance
    custody: Custody
    _recorded: dict[tuple[str, int], Recorded] = field(default_factory=dict)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def duties(self) -> Duties:
        """Return the duties as the supervisor wants them."""
        return Duties(
            prepare=self.prepare,
            may_go_on=self.may_go_on,
            make_ready=self.make_ready,
            record=self.record,
            catalogue=self.catalogue,
        )

    def prepare(self, tx: sa.Connection, claim: Claim) -> Preparation | Refusal:
        """Check everything a job needs, and return its ticket, or the words of what stands in its way."""
        job = claim.job
        try:
            match job.kind:
                case Kind.BACKUP:
                    return self._prepare_backup(tx, job)
                case Kind.COPY:
                    return self._prepare_copy(tx, job)
                case Kind.RESTORE:
                    return self._prepare_restore(tx, job)
        except JobRefusedError as refusal:
            return Refusal(str(refusal), refusal.category)
        except DeniedError as refusal:
            return Refusal(str(refusal), Category.ACCESS_DENIED)
        except (NotFoundError, InvalidInputError) as refusal:
            # What is missing or makes no sense now will not mend itself while the job waits.
            return Refusal(str(refusal), Category.RESOURCE_NOT_FOUND)

    def may_go_on(self, tx: sa.Connection, preparation: Preparation) -> Refusal | None:
        """Say which key of a running job was disabled or is to be deleted since it began, if one was."""
        arn = unusable_key(tx, preparation.repositories)
        if arn is None:
            return None
        return Refusal(f"{arn} was disabled while the job ran; enable it and run the job again", Category.KMS_KEY_ERROR)

    def make_ready(self, claim: Claim, preparation: Preparation) -> None:
        """Make sure that the repository that a backup or copy writes into exists, with its key beside it."""
        if claim.job.kind is Kind.RESTORE:
            return
        prepare_repository(
            self.instance.database,
            self.custody,
            preparation.about[_REPOSITORY],
            host_id=self.instance.settings.host_id,
            machine=self.instance.machine,
            now=self.instance.clock.now(),
        )

    def record(self, job: Job, outcome: Completed) -> None:
        """Put the signed record of the new recovery point into storage, before the job's row says that it is done."""
        if job.kind is Kind.RESTORE:
            return
        database = self.instance.database
        now = self.instance.clock.now()
        with database.reading() as tx:
            made = (self._made_by_copy if job.kind is Kind.COPY else self._made_by_backup)(tx, job, outcome, now)
        recorded = recovery.record_point(database, self.custody, made, now=now)
        with self._guard:
            self._recorded[job.id, job.epoch] = recorded

    def _made_by_backup(self, tx: sa.Connection, job: Job, outcome: Completed, now: datetime) -> Made:
        tags = sources.tags_of_resource(tx, job.account, job.region, job.resource_arn)
        brought: Mapping[str, Any] = outcome.result["brought"]
        return Made(
            point_id=point_id_of(job.id),
            job_id=job.id,
            epoch=job.epoch,
            vault_id=self._vault(tx, job).id,
            repository_id=outcome.result[_REPOSITORY],
            snapshot_id=outcome.result["snapshot_id"],
            resource_account=job.account,
            resource_arn=job.resource_arn,
            resource_type=job.resource_type,
            resource_name=job.resource_name,
            role_arn=job.role_arn,
            created_at=job.started_at or now,
            completed_at=now,
            size_bytes=brought.get("bytes_total", outcome.bytes_read),
            stored_bytes=outcome.bytes_stored,
            consistency=brought.get("consistency", "none"),
            lifecycle=_lifecycle(job),
            created_by={name: value for name, value in (created_by(tx, job) or {}).items() if value is not None},
            restore_metadata=brought.get("restore_metadata", {}),
            problems=tuple({"path": path, "what": what} for path, what in outcome.result.get("troubles", ())),
            status_message=outcome.message,
            tags={**tags, **job.options.get("point_tags", {})},
            arn=outcome.recovery_point_arn,
        )

    def _made_by_copy(self, tx: sa.Connection, job: Job, outcome: Completed, now: datetime) -> Made:
        """Return what a copy has made: a point of its own that tells of its resource as the one it was copied from."""
        source = self._point(tx, job)
        return Made(
            point_id=point_id_of(job.id),
            job_id=job.id,
            epoch=job.epoch,
            vault_id=self._vault(tx, job).id,
            repository_id=outcome.result[_REPOSITORY],
            snapshot_id=outcome.result["snapshot_id"],
            resource_account=source.resource_account,
            resource_arn=source.resource_arn,
            resource_type=source.resource_type,
            resource_name=source.resource_name,
            role_arn=job.role_arn,
            created_at=source.created_at,
            completed_at=now,
            size_bytes=source.size_bytes,
            stored_bytes=outcome.bytes_stored,
            consistency=source.consistency,
            lifecycle=copy_lifecycle(_lifecycle(job), source.lifecycle),
            created_by={name: value for name, value in (created_by(tx, job) or {}).items() if value is not None},
            restore_metadata=source.restore_metadata,
            problems=source.problems,
            status_message=source.status_message,
            tags=tags_of(tx, source.account, source.region, source.arn),
            source_vault_arn=source.vault_arn,
            arn=outcome.result["recovery_point_arn"],
        )

    def catalogue(self, tx: sa.Connection, job: Job, _outcome: Completed) -> None:
        """Make what a job made visible, in the transaction that ends it."""
        if job.kind is Kind.RESTORE:
            self._note_restored(tx, job)
            return
        with self._guard:
            recorded = self._recorded.pop((job.id, job.epoch))
        point = recovery.catalogue_point(tx, recorded)
        if job.kind is Kind.BACKUP:
            start_copies_of(tx, job, self._copies_of(job, point), now=self.instance.clock.now())

    def _note_restored(self, tx: sa.Connection, job: Job) -> None:
        """Note on the point that it was restored, and have what was made registered with the job's word of it."""
        now = self.instance.clock.now()
        if job.recovery_point_id is not None:
            points.set_restored(tx, job.recovery_point_id, at=now)
        into: Mapping[str, Any] = job.result[_RESTORED_INTO]
        arn = into["existing_arn"] or sources.register_restored(
            tx,
            job.account,
            job.region,
            type_name=job.resource_type,
            url=into["url"],
            site=job.site,
            secret_name=into["secret_name"],
            tags=self._tags_to_copy(tx, job),
            job_id=job.id,
            class_of=partial(intern_class, tx),
            now=now,
        )
        job_store.put_result(tx, job, {**job.result, "created_resource": arn})

    def _tags_to_copy(self, tx: sa.Connection, job: Job) -> Mapping[str, str]:
        """Return the tags of the point, where it was asked that what is restored gets them."""
        if not job.options.get("copy_tags"):
            return {}
        point = self._point(tx, job)
        return tags_of(tx, point.account, point.region, point.arn)

    def _copies_of(self, job: Job, point: RecoveryPoint) -> list[CopyRequest]:
        """Return the copies that a backup's rule wants of its point."""
        wanted = []
        for action in job.options.get("copies", ()):
            vault_arn = action["vault_arn"].replace("$account", job.account).replace("$region", job.region)
            subject = Subject(
                account=job.account,
                region=job.region,
                resource_arn=job.resource_arn,
                resource_type=job.resource_type,
                resource_name=job.resource_name,
                site=self.instance.settings.site_for(job.region),
                role_arn=job.role_arn,
                vault_name=vault_arn.rpartition(":")[2],
                vault_arn=vault_arn,
            )
            lifecycle = action["lifecycle"]
            wanted.append(
                CopyRequest(
                    subject=subject,
                    recovery_point_id=point.id,
                    recovery_point_arn=point.arn,
                    source_vault_arn=point.vault_arn,
                    cold_after_days=lifecycle["cold_after_days"],
                    delete_after_days=lifecycle["delete_after_days"],
                    bytes_total=point.size_bytes,
                )
            )
        return wanted

    def _prepare_backup(self, tx: sa.Connection, job: Job) -> Preparation:
        vault = self._vault(tx, job)
        controls = controls_of(tx, job.account)
        lacking = may_backup(
            tx,
            job.role_arn,
            job.resource_type,
            job.resource_arn,
            account=job.account,
            scps=controls.scps,
            management_accounts=controls.management_accounts,
        )
        if lacking:
            raise JobRefusedError("; ".join(lacking), Category.ACCESS_DENIED)
        resource = sources.find_resource(tx, job.account, job.region, job.resource_arn)
        if resource is None:
            raise JobRefusedError(
                f"{job.resource_arn} is not registered in account {job.account} any more; put it back, or take it "
                "out of the selection",
                Category.RESOURCE_NOT_FOUND,
            )
        try:
            recovery.refuse_new_point(vault, _lifecycle(job), job.resource_type)
        except HoldfastError as error:
            raise JobRefusedError(str(error), Category.INVALID_LIFECYCLE) from error
        now = self.instance.clock.now()
        repository = repository_for(tx, self.custody, vault, job.account, now=now)
        point_id = point_id_of(job.id)
        grants = self._grants(tx, job, Purpose.READ, resource.source_url)
        secret = sources.open_secret(tx, self.instance.root_key, resource)
        ticket = self._ticket(tx, job, repository.id, point_id)
        source = Place(
            url=resource.source_url,
            type=resource.type,
            secret=None if secret is None else Secret(secret.username, secret.password),
            options=job.options.get("backup_options", {}),
            grants=grants,
        )
        parent = points.latest_snapshot(tx, repository.id, job.resource_arn)
        arn = recovery.arn_for(
            vault,
            resource_type=job.resource_type,
            resource_arn=job.resource_arn,
            point_id=point_id,
            job_id=job.id,
            at=job.started_at or now,
        )
        work = BackupWork(source, parent_snapshot=parent)
        about = _about_target(vault, repository.id, _lifecycle(job))
        return Preparation(replace(ticket, backup=work), arn, about=about, repositories=(repository.id,))

    def _prepare_copy(self, tx: sa.Connection, job: Job) -> Preparation:
        point = self._point(tx, job)
        source = find_vault_by_id(tx, point.vault_id)
        if source is None or source.arn == job.vault_arn:
            raise JobRefusedError(f"{point.arn} lies in {job.vault_arn} already", Category.INVALID_STATE)
        lifecycle = copy_lifecycle(_lifecycle(job), point.lifecycle)
        broken = look(
            tx,
            role_arn=job.role_arn,
            source=source,
            target_arn=Arn.parse(job.vault_arn or ""),
            resource_type=point.resource_type,
            is_cold=point.storage_class is StorageClass.COLD,
            delete_after_days=normal(lifecycle).delete_after_days,
        )
        if broken:
            raise JobRefusedError(str(broken[0]), broken[0].category)
        target = self._vault(tx, job)
        try:
            recovery.refuse_new_point(target, lifecycle, point.resource_type)
        except HoldfastError as error:
            raise JobRefusedError(str(error), Category.INVALID_LIFECYCLE) from error
        repository = repository_for(tx, self.custody, target, point.resource_account, now=self.instance.clock.now())
        point_id = point_id_of(job.id)
        arn = recovery.arn_for(
            target,
            resource_type=point.resource_type,
            resource_arn=point.resource_arn,
            point_id=point_id,
            job_id=job.id,
            at=point.created_at,
        )
        work = CopyWork(
            source=self._access(tx, point.repository_id), snapshot=point.snapshot_id, bytes_expected=point.size_bytes
        )
        storages = self.instance.settings.storages
        about = _about_target(target, repository.id, lifecycle)
        domains = storages[source.storage].fault_domain, storages[target.storage].fault_domain
        ticket = self._ticket(tx, job, repository.id, point_id)
        return Preparation(
            replace(ticket, copy=work),
            arn,
            about=about,
            remark=where_copy_lies(*domains),
            repositories=(point.repository_id, repository.id),
        )

    def _prepare_restore(self, tx: sa.Connection, job: Job) -> Preparation:
        point = self._point(tx, job)
        if point.deleted_at is not None:
            raise _gone(job)
        controls = controls_of(tx, job.account)
        lacking = may_restore(
            tx,
            job.role_arn,
            job.resource_type,
            job.resource_arn,
            account=job.account,
            scps=controls.scps,
            management_accounts=controls.management_accounts,
        )
        if lacking:
            raise JobRefusedError("; ".join(lacking), Category.ACCESS_DENIED)
        metadata: dict[str, str] = dict(job.options.get("metadata", {}))
        target = sources.restore_place(
            tx,
            self.instance.root_key,
            job.account,
            job.region,
            type_name=job.resource_type,
            resource_arn=job.resource_arn,
            metadata=metadata,
            site=job.site,
        )
        target_place = Place(
            url=target.url,
            type=job.resource_type,
            secret=None if target.secret is None else Secret(target.secret.username, target.secret.password),
            grants=self._grants(tx, job, Purpose.RESTORE, target.url),
        )
        ticket = self._ticket(tx, job, point.repository_id, point.id)
        work = RestoreWork(
            snapshot=point.snapshot_id,
            target=target_place,
            metadata=metadata,
            asked_at=job.created_at,
            bytes_expected=point.size_bytes,
        )
        ticket = replace(ticket, restore=work)
        into = {"url": target.url, "secret_name": target.secret_name, "existing_arn": target.existing_arn}
        return Preparation(
            ticket, job.recovery_point_arn, about={_RESTORED_INTO: into}, repositories=(point.repository_id,)
        )

    def _ticket(self, tx: sa.Connection, job: Job, repository_id: str, point_id: str) -> Ticket:
        return Ticket(
            job_id=job.id,
            epoch=job.epoch,
            kind=job.kind,
            account=job.account,
            resource_arn=job.resource_arn,
            repository=self._access(tx, repository_id),
            at=self.instance.clock.now(),
            beat=_BY_THE_SUPERVISOR,
            silence=_BY_THE_SUPERVISOR,
            recovery_point_id=point_id,
        )

    def _access(self, tx: sa.Connection, repository_id: str) -> RepositoryAccess:
        try:
            access = access_for_job(tx, self.custody, repository_id)
        except HoldfastError as error:
            raise JobRefusedError(str(error), Category.KMS_KEY_ERROR) from error
        return RepositoryAccess(access.storage_url, access.path, access.password, access.storage_options)

    def _point(self, tx: sa.Connection, job: Job) -> RecoveryPoint:
        """Return the point that a copy or restore reads, hidden or not."""
        point = None if job.recovery_point_id is None else points.find_point_by_id(tx, job.recovery_point_id)
        if point is None:
            raise _gone(job)
        return point

    def _vault(self, tx: sa.Connection, job: Job) -> Vault:
        """Return the vault that a backup or copy writes into."""
        arn = job.vault_arn or ""
        vault = find_vault_by_arn(tx, arn)
        if vault is None:
            account = arn.split(":")[4] if arn.count(":") > _COLONS_BEFORE_ACCOUNT else job.account
            raise JobRefusedError(
                f"the job cannot run because backup vault {arn} does not exist; create it in account {account}, or "
                "name another in the plan",
                Category.RESOURCE_NOT_FOUND,
            )
        return vault

    def _grants(self, tx: sa.Connection, job: Job, purpose: Purpose, url: str) -> tuple[HostGrant, ...]:
        """Return what the account may touch at the job's site, which has to hold the place of this job.

        Raises:
            JobRefusedError: no grant does; the text says which the management account would have to put.
        """
        given = sources.grants_of(tx, job.account, job.site, purpose)
        if self.instance.settings.mode is Mode.DEV:
            # A development server grants every account what its own command line names, and nothing else.
            given += self.instance.settings.host_grants
        wanted = location(url)
        if job.site == LOCAL_SITE:
            refuse_own(wanted, own_places(self.instance.settings.own))
        if not any(
            (grant.read if purpose is Purpose.READ else grant.restore) and place(grant.url_prefix).contains(wanted)
            for grant in given
        ):
            try:
                granting(wanted, purpose, (), site=job.site, account=job.account, unit_path="")
            except NotGrantedError as error:
                raise JobRefusedError(str(error), Category.ACCESS_DENIED) from error
        return given


def _gone(job: Job) -> JobRefusedError:
    return JobRefusedError(
        f"the recovery point {job.recovery_point_arn} does not exist any more", Category.RESOURCE_NOT_FOUND
    )


def _about_target(vault: Vault, repository_id: str, lifecycle: Lifecycle) -> dict[str, Any]:
    """Return what a job's result tells of where its point goes, as it was when the job ran."""
    return {
        _REPOSITORY: repository_id,
        "key_arn": vault.key_arn,
        "is_locked": vault.lock is not None,
        "cold_after_days": lifecycle.cold_after_days,
        "delete_after_days": lifecycle.delete_after_days,
    }


def _lifecycle(job: Job) -> Lifecycle:
    return Lifecycle(job.options.get("cold_after_days"), job.options.get("delete_after_days"))
