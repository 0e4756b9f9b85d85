"""What the other stations do for a job: check that it can be done, make its ticket, record and catalogue its point."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from holdfast.access.backup_role import may_backup, may_restore
from holdfast.core.arn import Arn
from holdfast.core.errors import DeniedError, HoldfastError, InvalidInputError, NotFoundError
from holdfast.core.ids import name_uuid
from holdfast.core.settings import LOCAL_SITE, HostGrant, Mode, Settings
from holdfast.job.model import Category, Claim, Completed, Job, Kind
from holdfast.job.protocol import BackupWork, Host, Place, RepositoryAccess, RestoreWork, Secret, Ticket
from holdfast.job.supervisor import Duties, Preparation, Refusal
from holdfast.plan.model.plan import Lifecycle, organization_plan_id, organization_rule_id
from holdfast.recovery import service as recovery
from holdfast.recovery import store as points
from holdfast.recovery.service import Made, Recorded
from holdfast.server.authorize import controls_of
from holdfast.source import service as sources
from holdfast.source.confined import own_places
from holdfast.source.grant import Purpose, granting, refuse_own
from holdfast.source.location import location, place
from holdfast.source.protocol import NotGrantedError
from holdfast.vault.custody import Custody
from holdfast.vault.model import UnknownVaultError, Vault
from holdfast.vault.repositories import access_for_job, prepare_repository, repository_for
from holdfast.vault.service import get_vault
from holdfast.wire.call import Instance

_BY_THE_SUPERVISOR: Final = timedelta(seconds=1)
"""Beat and silence of a ticket are the supervisor's to set."""


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
        return Duties(prepare=self.prepare, make_ready=self.make_ready, record=self.record, catalogue=self.catalogue)

    def prepare(self, tx: sa.Connection, claim: Claim) -> Preparation | Refusal:
        """Check everything a job needs, and return its ticket, or the words of what stands in its way."""
        job = claim.job
        try:
            if job.kind is Kind.RESTORE:
                return self._prepare_restore(tx, job)
            return self._prepare_backup(tx, job)
        except JobRefusedError as refusal:
            return Refusal(str(refusal), refusal.category)
        except DeniedError as refusal:
            return Refusal(str(refusal), Category.ACCESS_DENIED)
        except (NotFoundError, InvalidInputError) as refusal:
            # What is missing or makes no sense now will not mend itself while the job waits.
            return Refusal(str(refusal), Category.RESOURCE_NOT_FOUND)

    def make_ready(self, claim: Claim, _preparation: Preparation) -> None:
        """Make sure that the repository of a backup exists, with its key beside it."""
        job = claim.job
        if job.kind is not Kind.BACKUP:
            return
        now = self.instance.clock.now()
        with self.instance.database.transaction() as tx:
            vault = self._vault(tx, job)
            repository = repository_for(tx, self.custody, vault, job.account, now=now)
        prepare_repository(
            self.instance.database,
            self.custody,
            repository.id,
            host_id=self.instance.settings.host_id,
            machine=self.instance.machine,
            now=now,
        )

    def record(self, job: Job, outcome: Completed) -> None:
        """Put the signed record of the new recovery point into storage, before the job's row says that it is done."""
        if job.kind is not Kind.BACKUP:
            return
        database = self.instance.database
        now = self.instance.clock.now()
        with database.transaction() as tx:
            vault = self._vault(tx, job)
            repository = repository_for(tx, self.custody, vault, job.account, now=now)
            tags = sources.tags_of_resource(tx, job.account, job.region, job.resource_arn)
        brought: Mapping[str, Any] = outcome.result["brought"]
        made = Made(
            point_id=_point_id(job),
            job_id=job.id,
            epoch=job.epoch,
            vault_id=vault.id,
            repository_id=repository.id,
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
            created_by=_created_by(job),
            restore_metadata=brought.get("restore_metadata", {}),
            problems=tuple({"path": path, "what": what} for path, what in outcome.result.get("troubles", ())),
            status_message=outcome.message,
            tags={**tags, **job.options.get("point_tags", {})},
            arn=outcome.recovery_point_arn,
        )
        recorded = recovery.record_point(database, self.custody, made, now=now)
        with self._guard:
            self._recorded[job.id, job.epoch] = recorded

    def catalogue(self, tx: sa.Connection, job: Job, _outcome: Completed) -> None:
        """Make what a job made visible, in the transaction that ends it."""
        if job.kind is Kind.RESTORE:
            if job.recovery_point_id is not None:
                points.set_restored(tx, job.recovery_point_id, at=self.instance.clock.now())
            return
        with self._guard:
            recorded = self._recorded.pop((job.id, job.epoch))
        recovery.catalogue_point(tx, recorded)

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
        point_id = _point_id(job)
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
        return Preparation(replace(ticket, backup=BackupWork(source, parent_snapshot=parent)), arn)

    def _prepare_restore(self, tx: sa.Connection, job: Job) -> Preparation:
        point = None if job.recovery_point_id is None else points.find_point_by_id(tx, job.recovery_point_id)
        if point is None or point.deleted_at is not None:
            raise JobRefusedError(
                f"the recovery point {job.recovery_point_arn} does not exist any more", Category.RESOURCE_NOT_FOUND
            )
        controls = controls_of(tx, job.account)
        lacking = may_restore(
            tx,
            job.role_arn,
            job.resource_type,
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
        return Preparation(replace(ticket, restore=work), job.recovery_point_arn)

    def _ticket(self, tx: sa.Connection, job: Job, repository_id: str, point_id: str) -> Ticket:
        try:
            access = access_for_job(tx, self.custody, repository_id)
        except HoldfastError as error:
            raise JobRefusedError(str(error), Category.KMS_KEY_ERROR) from error
        return Ticket(
            job_id=job.id,
            epoch=job.epoch,
            kind=job.kind,
            account=job.account,
            resource_arn=job.resource_arn,
            repository=RepositoryAccess(access.storage_url, access.path, access.password, access.storage_options),
            at=self.instance.clock.now(),
            beat=_BY_THE_SUPERVISOR,
            silence=_BY_THE_SUPERVISOR,
            recovery_point_id=point_id,
        )

    def _vault(self, tx: sa.Connection, job: Job) -> Vault:
        try:
            return get_vault(tx, account=job.account, region=job.region, name=job.vault_name or "")
        except UnknownVaultError as error:
            raise JobRefusedError(
                f"the job cannot run because backup vault {job.vault_arn} does not exist; create it in account "
                f"{job.account}, or name another in the plan",
                Category.RESOURCE_NOT_FOUND,
            ) from error

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


def _point_id(job: Job) -> str:
    # The same for every run of a job, so that a run which is taken over makes the same point, never a second one.
    return name_uuid("recovery point", job.id)


def _lifecycle(job: Job) -> Lifecycle:
    return Lifecycle(job.options.get("cold_after_days"), job.options.get("delete_after_days"))


def _created_by(job: Job) -> dict[str, str]:
    if job.plan_name is None or job.organization_id is None:
        return {}
    organization, account, region = job.organization_id, job.account, job.region
    plan_id = organization_plan_id(organization, account, region, job.plan_name)
    partition = Arn.parse(job.vault_arn or "").partition
    return {
        "BackupPlanId": plan_id,
        "BackupPlanArn": f"arn:{partition}:backup:{region}:{account}:backup-plan:{plan_id}",
        "BackupRuleId": organization_rule_id(organization, account, region, job.plan_name, job.rule_name or ""),
    }
