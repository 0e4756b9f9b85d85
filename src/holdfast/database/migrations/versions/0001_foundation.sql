-- The first tables: organization, policies, resources, access, keys, vaults, recovery points, jobs, audit trail.
-- Instants are whole microseconds since 1970 in columns that end in _at or _by. Interval rows hold from starts_at up
-- to and without ends_at; the row that still holds has the largest 64-bit number there. JSON lies in text columns.
-- SERIAL_KEY, BYTES and IN_BYTE_ORDER are replaced by the dialect's own words.


-- One installation's own facts: its id, the root key's fingerprint, the development stamp, the civil clock's
-- offset.
CREATE TABLE instance (
    name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (name)
);

-- Settings that accounts make: region settings (opt-in), global settings. Region is '' where there is none.
CREATE TABLE setting (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL,
    updated_at BIGINT NOT NULL, PRIMARY KEY (account, region, name)
);

-- The answer a request with an idempotency token got, kept for a day.
CREATE TABLE idempotency (
    account TEXT NOT NULL, region TEXT NOT NULL, operation TEXT NOT NULL, token TEXT NOT NULL,
    parameters_hash TEXT NOT NULL, answer TEXT, created_at BIGINT NOT NULL,
    PRIMARY KEY (account, region, operation, token)
);
CREATE TABLE outbox (
    id SERIAL_KEY, kind TEXT NOT NULL, body TEXT NOT NULL, created_at BIGINT NOT NULL, available_at BIGINT NOT NULL,
    attempts INTEGER NOT NULL, error TEXT
);
CREATE INDEX outbox_due ON outbox (available_at);

-- Tags on everything that has an ARN; organization-wide objects lie under the management account, region ''.
CREATE TABLE tag (
    account TEXT NOT NULL, region TEXT NOT NULL, arn TEXT NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (account, region, arn, key)
);
CREATE TABLE organization (
    id TEXT NOT NULL, management_account TEXT NOT NULL, root_id TEXT NOT NULL, feature_set TEXT NOT NULL,
    created_at BIGINT NOT NULL, deleted_at BIGINT, PRIMARY KEY (id)
);

-- Roots and units alike; path is the organization's path of AWS: o-1/r-1/ou-1/ou-2/ (a unit never moves).
CREATE TABLE unit (
    id TEXT NOT NULL, organization_id TEXT NOT NULL, parent_id TEXT, name TEXT NOT NULL, depth INTEGER NOT NULL,
    path TEXT NOT NULL, created_at BIGINT NOT NULL, deleted_at BIGINT NOT NULL, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX unit_parent ON unit (parent_id, name) WHERE deleted_at = 9223372036854775807;
CREATE INDEX unit_organization ON unit (organization_id, path);

-- An account may stand outside of any organization. One in AWS's GovCloud is paired with the commercial account it was
-- created with, whose e-mail address it shares.
CREATE TABLE account (
    id TEXT NOT NULL, name TEXT NOT NULL, email TEXT NOT NULL, alias TEXT, external_id TEXT, status TEXT NOT NULL,
    organization_id TEXT, joined_method TEXT, joined_at BIGINT, created_at BIGINT NOT NULL, closed_at BIGINT,
    paired_with TEXT, PRIMARY KEY (id), UNIQUE (alias), UNIQUE (external_id)
);
CREATE UNIQUE INDEX account_email ON account (lower(email)) WHERE paired_with IS NULL;
CREATE INDEX account_organization ON account (organization_id, joined_at, id);

-- Where an account stood in the tree, since when until when.
CREATE TABLE placement (
    account_id TEXT NOT NULL, organization_id TEXT NOT NULL, unit_id TEXT NOT NULL, path TEXT NOT NULL,
    starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL, PRIMARY KEY (account_id, starts_at)
);
CREATE UNIQUE INDEX placement_present ON placement (account_id) WHERE ends_at = 9223372036854775807;
CREATE INDEX placement_unit ON placement (unit_id, ends_at, starts_at, account_id);
CREATE INDEX placement_organization ON placement (organization_id, ends_at, account_id);
CREATE TABLE create_account_request (
    id TEXT NOT NULL, organization_id TEXT NOT NULL, account_id TEXT, account_name TEXT NOT NULL,
    email TEXT NOT NULL, state TEXT NOT NULL, failure_reason TEXT, requested_at BIGINT NOT NULL,
    completed_at BIGINT, gov_cloud_account_id TEXT, PRIMARY KEY (id)
);
CREATE INDEX create_account_request_organization ON create_account_request (organization_id, requested_at, id);

-- An invitation, or the question to enable all features, which is one parent and a child for each invited account. The
-- receiving account may not be known yet: then there is only its e-mail address.
CREATE TABLE handshake (
    id TEXT NOT NULL, organization_id TEXT NOT NULL, action TEXT NOT NULL, state TEXT NOT NULL,
    parties TEXT NOT NULL, resources TEXT NOT NULL, account_id TEXT, email TEXT, parent_id TEXT, tags TEXT NOT NULL,
    requested_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, ended_at BIGINT, PRIMARY KEY (id)
);
CREATE INDEX handshake_organization ON handshake (organization_id, requested_at, id);
CREATE INDEX handshake_account ON handshake (account_id, requested_at, id);
CREATE INDEX handshake_email ON handshake (email);
CREATE INDEX handshake_parent ON handshake (parent_id);
CREATE TABLE service_access (
    organization_id TEXT NOT NULL, principal TEXT NOT NULL, enabled_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, principal)
);
CREATE TABLE delegated_administrator (
    organization_id TEXT NOT NULL, account_id TEXT NOT NULL, principal TEXT NOT NULL, enabled_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, account_id, principal)
);
CREATE TABLE resource_policy (
    organization_id TEXT NOT NULL, id TEXT NOT NULL, content TEXT NOT NULL, updated_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id)
);
CREATE TABLE policy_type (
    organization_id TEXT NOT NULL, type TEXT NOT NULL, status TEXT NOT NULL, enabled_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, type)
);
CREATE TABLE policy (
    id TEXT NOT NULL, organization_id TEXT NOT NULL, type TEXT NOT NULL, name TEXT NOT NULL,
    description TEXT NOT NULL, content TEXT NOT NULL, version INTEGER NOT NULL, aws_managed BOOLEAN NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (organization_id, id),
    UNIQUE (organization_id, type, name)
);
CREATE TABLE policy_version (
    organization_id TEXT NOT NULL, policy_id TEXT NOT NULL, version INTEGER NOT NULL, name TEXT NOT NULL,
    content TEXT NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, policy_id, version)
);

-- Sequence is the order of attachment, which decides between policies at one node.
CREATE TABLE attachment (
    organization_id TEXT NOT NULL, policy_id TEXT NOT NULL, target_id TEXT NOT NULL, type TEXT NOT NULL,
    sequence BIGINT NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    PRIMARY KEY (organization_id, policy_id, target_id, starts_at)
);
CREATE INDEX attachment_target ON attachment (target_id, type, ends_at, sequence);

-- Distribution by reference: an effective document is stored once, by its content; a chain is a path's attachments
-- in order; an account points to its chain, the chain to its document, each since when until when.
CREATE TABLE document (
    id TEXT NOT NULL, type TEXT NOT NULL, content TEXT NOT NULL, created_at BIGINT NOT NULL,
    -- When its rules and selections were taken out for the scheduler; null until then.
    installed_at BIGINT, PRIMARY KEY (id)
);
CREATE TABLE chain (
    id TEXT NOT NULL, organization_id TEXT NOT NULL, type TEXT NOT NULL, attachments TEXT NOT NULL, PRIMARY KEY (id)
);
CREATE TABLE chain_document (
    chain_id TEXT NOT NULL, document_id TEXT NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    PRIMARY KEY (chain_id, starts_at)
);
CREATE INDEX chain_document_document ON chain_document (document_id, ends_at);

-- Every computation of a chain, also one that came out invalid and so changed no document.
CREATE TABLE chain_evaluation (
    chain_id TEXT NOT NULL, document_id TEXT, errors TEXT NOT NULL, policy_versions TEXT NOT NULL,
    starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL, PRIMARY KEY (chain_id, starts_at)
);
CREATE TABLE account_chain (
    account_id TEXT NOT NULL, type TEXT NOT NULL, chain_id TEXT NOT NULL, starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL, PRIMARY KEY (account_id, type, starts_at)
);
CREATE INDEX account_chain_chain ON account_chain (chain_id, ends_at);

-- Only for accounts that fall back to another document than their chain's: the last valid one where they came from.
CREATE TABLE account_document (
    account_id TEXT NOT NULL, type TEXT NOT NULL, document_id TEXT NOT NULL, starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL, PRIMARY KEY (account_id, type, starts_at)
);
CREATE INDEX account_document_document ON account_document (document_id, ends_at);

-- What the scheduler needs of a backup document, taken out of it once, when it first comes into force; of a plan that an
-- account made itself (then plan_id says which), with its version in the place of the document.
CREATE TABLE document_rule (
    document_id TEXT NOT NULL, plan_id TEXT, plan_name TEXT NOT NULL, rule_name TEXT NOT NULL, region TEXT NOT NULL,
    rule TEXT NOT NULL, schedule TEXT NOT NULL, timezone TEXT NOT NULL, start_window BIGINT NOT NULL,
    completion_window BIGINT NOT NULL, vault_name TEXT NOT NULL, next_due_at BIGINT,
    PRIMARY KEY (document_id, plan_name, rule_name, region)
);
CREATE INDEX document_rule_due ON document_rule (next_due_at);
CREATE TABLE document_selection (
    document_id TEXT NOT NULL, plan_name TEXT NOT NULL,
    -- Of several selections that take a resource the first one counts.
    selection_name TEXT IN_BYTE_ORDER NOT NULL, selection_hash TEXT NOT NULL, role_arn TEXT NOT NULL,
    PRIMARY KEY (document_id, plan_name, selection_name)
);
CREATE INDEX document_selection_hash ON document_selection (selection_hash);

-- Plans that accounts make themselves, and their versions, numbered from 1; one holds from starts_at on. A version's id
-- stands in document_rule for the document's.
CREATE TABLE backup_plan (
    id TEXT IN_BYTE_ORDER NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, creator_request_id TEXT NOT NULL,
    created_at BIGINT NOT NULL, deleted_at BIGINT, last_run_at BIGINT, PRIMARY KEY (id)
);
CREATE INDEX backup_plan_account ON backup_plan (account, region, id);
CREATE UNIQUE INDEX backup_plan_request ON backup_plan (account, region, creator_request_id) WHERE deleted_at IS NULL;
CREATE TABLE backup_plan_version (
    id TEXT NOT NULL, plan_id TEXT NOT NULL, number INTEGER NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL,
    content_hash TEXT NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    PRIMARY KEY (id), UNIQUE (plan_id, number)
);

-- Their selections; what each says lies in selection.
CREATE TABLE backup_selection (
    id TEXT IN_BYTE_ORDER NOT NULL, plan_id TEXT NOT NULL, name TEXT NOT NULL, role_arn TEXT NOT NULL,
    selection_hash TEXT NOT NULL, creator_request_id TEXT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (id),
    UNIQUE (plan_id, name)
);
CREATE INDEX backup_selection_plan ON backup_selection (plan_id, id);
CREATE TABLE resource_class (
    id SERIAL_KEY, type TEXT NOT NULL, region TEXT NOT NULL, tags_hash TEXT NOT NULL, tags TEXT NOT NULL,
    UNIQUE (type, region, tags_hash)
);
CREATE TABLE selection (
    hash TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (hash)
);
-- Whether a selection takes the resources of a class, and whether also where their type is switched off.
CREATE TABLE verdict (
    selection_hash TEXT NOT NULL, class_id BIGINT NOT NULL, selected BOOLEAN NOT NULL, regardless BOOLEAN NOT NULL,
    clause TEXT NOT NULL, PRIMARY KEY (selection_hash, class_id)
);
CREATE INDEX verdict_class ON verdict (class_id);

-- Goes before the verdict on its class, for a resource that a selection tells from the others of its class by its ARN.
CREATE TABLE resource_verdict (
    resource_id BIGINT NOT NULL, class_id BIGINT NOT NULL, selection_hash TEXT NOT NULL, selected BOOLEAN NOT NULL,
    regardless BOOLEAN NOT NULL, clause TEXT NOT NULL, PRIMARY KEY (resource_id, selection_hash, class_id)
);
CREATE TABLE resource (
    id SERIAL_KEY, account TEXT NOT NULL, region TEXT NOT NULL, arn TEXT NOT NULL, type TEXT NOT NULL,
    name TEXT NOT NULL, source_url TEXT NOT NULL,
    -- The canonical URL of the place, without options: what overlaps is told by it, so its order must be plain.
    location TEXT IN_BYTE_ORDER NOT NULL, site TEXT NOT NULL, secret_name TEXT,
    class_id BIGINT NOT NULL, version INTEGER NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    deleted_at BIGINT, UNIQUE (account, region, arn)
);
CREATE UNIQUE INDEX resource_name ON resource (account, region, name) WHERE deleted_at IS NULL;
CREATE INDEX resource_class_of ON resource (class_id);
CREATE INDEX resource_location ON resource (site, location);
CREATE TABLE resource_interval (
    resource_id BIGINT NOT NULL, class_id BIGINT NOT NULL, starts_at BIGINT NOT NULL, ends_at BIGINT NOT NULL,
    PRIMARY KEY (resource_id, starts_at)
);
CREATE INDEX resource_interval_class ON resource_interval (class_id, ends_at);

-- Manager is the management account, or an account that is in no organization and so answers for itself.
CREATE TABLE site_grant (
    manager TEXT NOT NULL, name TEXT NOT NULL, site TEXT NOT NULL, url_prefix TEXT NOT NULL,
    accounts TEXT NOT NULL, unit_id TEXT, allow_read BOOLEAN NOT NULL, allow_restore BOOLEAN NOT NULL,
    version INTEGER NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (manager, name)
);
CREATE TABLE secret (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, username TEXT NOT NULL, sealed BYTES NOT NULL,
    scheme TEXT NOT NULL, host TEXT NOT NULL, port INTEGER, site TEXT NOT NULL, version INTEGER NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (account, region, name)
);

-- Raised by every change that may change a decision; each request reads it, so that a revocation binds the next
-- one. The mark is random: a number that was rolled back comes again, with another mark.
CREATE TABLE access_version (
    id INTEGER NOT NULL, version BIGINT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (id)
);
INSERT INTO access_version (id, version, mark) VALUES (1, 1, '');
CREATE TABLE iam_user (
    account TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, arn TEXT NOT NULL,
    boundary TEXT, created_at BIGINT NOT NULL, PRIMARY KEY (account, name)
);

-- A user's password. The former ones are kept as long as they may not come back.
CREATE TABLE iam_login_profile (
    account TEXT NOT NULL, user_name TEXT NOT NULL, password_hash TEXT NOT NULL, former TEXT NOT NULL,
    reset_required BOOLEAN NOT NULL, created_at BIGINT NOT NULL, changed_at BIGINT NOT NULL, used_at BIGINT,
    PRIMARY KEY (account, user_name)
);
CREATE TABLE iam_password_policy (
    account TEXT NOT NULL, policy TEXT NOT NULL, PRIMARY KEY (account)
);

-- Second factors; `last_step` is the newest time step whose code was taken, so that none is taken twice.
CREATE TABLE iam_mfa_device (
    serial TEXT NOT NULL, account TEXT NOT NULL, sealed_seed BYTES NOT NULL, user_name TEXT, enabled_at BIGINT,
    drift INTEGER NOT NULL, last_step BIGINT NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (serial)
);
CREATE INDEX iam_mfa_device_user ON iam_mfa_device (account, user_name);

-- OpenID Connect issuers whose people may act in the account's roles, as far as the roles trust them.
CREATE TABLE iam_oidc_provider (
    arn TEXT NOT NULL, account TEXT NOT NULL, url TEXT NOT NULL, client_ids TEXT NOT NULL, thumbprints TEXT NOT NULL,
    created_at BIGINT NOT NULL, PRIMARY KEY (arn)
);
CREATE INDEX iam_oidc_provider_account ON iam_oidc_provider (account, arn);
CREATE TABLE iam_group (
    account TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, arn TEXT NOT NULL,
    created_at BIGINT NOT NULL, PRIMARY KEY (account, name)
);
CREATE TABLE iam_group_member (
    account TEXT NOT NULL, group_name TEXT NOT NULL, user_name TEXT NOT NULL,
    PRIMARY KEY (account, group_name, user_name)
);
CREATE TABLE iam_role (
    account TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL, arn TEXT NOT NULL,
    description TEXT NOT NULL, trust TEXT NOT NULL, max_session INTEGER NOT NULL, boundary TEXT,
    created_at BIGINT NOT NULL, last_used_at BIGINT, last_used_region TEXT, PRIMARY KEY (account, name)
);

-- Managed policies of accounts; those of AWS's names live in code.
CREATE TABLE iam_policy (
    arn TEXT NOT NULL, account TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, path TEXT NOT NULL,
    description TEXT NOT NULL, default_version TEXT NOT NULL, last_version INTEGER NOT NULL,
    created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL, PRIMARY KEY (arn)
);
CREATE INDEX iam_policy_account ON iam_policy (account, name);
CREATE TABLE iam_policy_version (
    arn TEXT NOT NULL, version TEXT NOT NULL, document TEXT NOT NULL, created_at BIGINT NOT NULL,
    PRIMARY KEY (arn, version)
);

-- Kind is user, group or role.
CREATE TABLE iam_attachment (
    account TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, policy_arn TEXT NOT NULL,
    PRIMARY KEY (account, kind, name, policy_arn)
);
CREATE TABLE iam_inline_policy (
    account TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, policy_name TEXT NOT NULL,
    document TEXT NOT NULL, PRIMARY KEY (account, kind, name, policy_name)
);
CREATE TABLE access_key (
    id TEXT NOT NULL, account TEXT NOT NULL, user_name TEXT, sealed_secret BYTES NOT NULL, status TEXT NOT NULL,
    created_at BIGINT NOT NULL, last_used_at BIGINT, last_used_service TEXT, last_used_region TEXT, PRIMARY KEY (id)
);
CREATE INDEX access_key_user ON access_key (account, user_name);

-- Temporary credentials; expiry is machine time.
CREATE TABLE session (
    access_key_id TEXT NOT NULL, account TEXT NOT NULL, arn TEXT NOT NULL, user_id TEXT NOT NULL,
    principal_arn TEXT NOT NULL, session_name TEXT NOT NULL, sealed_secret BYTES NOT NULL, token_hash TEXT NOT NULL,
    policies TEXT, tags TEXT NOT NULL, person TEXT, mfa_at BIGINT, source_identity TEXT, provider TEXT,
    created_at BIGINT NOT NULL, expires_at BIGINT NOT NULL, PRIMARY KEY (access_key_id)
);
CREATE INDEX session_expiry ON session (expires_at);
CREATE TABLE kms_key (
    id TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, arn TEXT NOT NULL, description TEXT NOT NULL,
    manager TEXT NOT NULL, state TEXT NOT NULL, policy TEXT NOT NULL, rotation_enabled BOOLEAN NOT NULL,
    rotation_days INTEGER NOT NULL, created_at BIGINT NOT NULL, deletion_at BIGINT, PRIMARY KEY (id)
);
CREATE INDEX kms_key_account ON kms_key (account, region, id);
CREATE TABLE kms_material (
    key_id TEXT NOT NULL, version INTEGER NOT NULL, sealed BYTES NOT NULL, created_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, version)
);
CREATE TABLE kms_alias (
    account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, key_id TEXT NOT NULL,
    created_at BIGINT NOT NULL, PRIMARY KEY (account, region, name)
);
CREATE TABLE kms_grant (
    id TEXT NOT NULL, token TEXT NOT NULL, key_id TEXT NOT NULL, name TEXT NOT NULL, grantee TEXT NOT NULL,
    retiring TEXT, operations TEXT NOT NULL, constraints TEXT NOT NULL, issuing_account TEXT NOT NULL,
    created_at BIGINT NOT NULL, PRIMARY KEY (id), UNIQUE (token)
);
CREATE INDEX kms_grant_key ON kms_grant (key_id, id);
CREATE INDEX kms_grant_retiring ON kms_grant (retiring, id);

-- A vault that was deleted keeps its row until the last of its hidden recovery points is gone. Records are its signed
-- ledger in storage: how many there are, and the hash of the last.
CREATE TABLE vault (
    id TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, arn TEXT NOT NULL,
    storage TEXT NOT NULL, key_arn TEXT NOT NULL, creator_request_id TEXT NOT NULL, policy TEXT,
    min_retention_days INTEGER, max_retention_days INTEGER, locked BOOLEAN NOT NULL, lock_at BIGINT,
    deletion_delay_days INTEGER NOT NULL, lowered_delay_days INTEGER, lowered_at BIGINT, notifications TEXT,
    record_sequence BIGINT NOT NULL, record_hash TEXT NOT NULL, created_at BIGINT NOT NULL,
    deleted_at BIGINT NOT NULL, PRIMARY KEY (id),
    UNIQUE (account, region, name, deleted_at)
);
CREATE INDEX vault_arn ON vault (arn);

-- Records that were numbered and signed but may not be in storage yet.
CREATE TABLE vault_record (
    vault_id TEXT NOT NULL, sequence BIGINT NOT NULL, content BYTES NOT NULL, PRIMARY KEY (vault_id, sequence)
);

-- A vault's restic repositories: one per source account and generation, and a second one of the same password for what
-- went to cold storage. The path is made of ids and never changes.
CREATE TABLE repository (
    id TEXT NOT NULL, vault_id TEXT NOT NULL, source_account TEXT NOT NULL, generation INTEGER NOT NULL,
    storage TEXT NOT NULL, path TEXT NOT NULL, wrapped_password BYTES NOT NULL, key_arn TEXT NOT NULL,
    is_cold BOOLEAN NOT NULL, ready BOOLEAN NOT NULL, created_at BIGINT NOT NULL, PRIMARY KEY (id),
    UNIQUE (vault_id, source_account, generation, is_cold)
);
CREATE TABLE recovery_point (
    id TEXT NOT NULL, arn TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, vault_id TEXT NOT NULL,
    vault_name TEXT NOT NULL, repository_id TEXT NOT NULL, snapshot_id TEXT NOT NULL,
    resource_account TEXT NOT NULL, resource_arn TEXT NOT NULL, resource_type TEXT NOT NULL,
    resource_name TEXT NOT NULL, job_id TEXT NOT NULL, status TEXT NOT NULL, status_message TEXT,
    role_arn TEXT NOT NULL, created_by TEXT NOT NULL, created_at BIGINT NOT NULL, completed_at BIGINT NOT NULL,
    size_bytes BIGINT NOT NULL, stored_bytes BIGINT NOT NULL, cold_after_days INTEGER, delete_after_days INTEGER,
    cold_at BIGINT, delete_at BIGINT, archive_opt_in BOOLEAN NOT NULL, storage_class TEXT NOT NULL,
    key_arn TEXT NOT NULL, consistency TEXT NOT NULL,
    restore_metadata TEXT NOT NULL, problems TEXT NOT NULL, deleted_at BIGINT, purge_at BIGINT,
    source_vault_arn TEXT, last_restored_at BIGINT, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX recovery_point_arn ON recovery_point (account, region, arn);
CREATE INDEX recovery_point_vault ON recovery_point (vault_id, created_at, id);
CREATE INDEX recovery_point_resource ON recovery_point (account, region, resource_arn, created_at);
CREATE INDEX recovery_point_key ON recovery_point (key_arn, created_at, id);
CREATE INDEX recovery_point_snapshot ON recovery_point (repository_id, snapshot_id);
CREATE INDEX recovery_point_expiry ON recovery_point (deleted_at, delete_at);
CREATE INDEX recovery_point_purge ON recovery_point (purge_at);
CREATE INDEX recovery_point_cold ON recovery_point (cold_at, id) WHERE storage_class = 'WARM' AND deleted_at IS NULL;

-- Points whose record is on its way to storage while their job has not ended yet; one whose job ends otherwise is
-- withdrawn.
CREATE TABLE announced_point (
    point_id TEXT NOT NULL, vault_id TEXT NOT NULL, job_id TEXT NOT NULL, epoch INTEGER NOT NULL, PRIMARY KEY (point_id)
);

-- What keeps recovery points whatever their lifecycle says, and which ones.
CREATE TABLE legal_hold (
    id TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, arn TEXT NOT NULL, title TEXT NOT NULL,
    description TEXT NOT NULL, status TEXT NOT NULL, selection TEXT NOT NULL, token TEXT, created_at BIGINT NOT NULL,
    canceled_at BIGINT, cancel_description TEXT, retain_until BIGINT, PRIMARY KEY (id)
);
CREATE INDEX legal_hold_account ON legal_hold (account, region, created_at, id);
CREATE TABLE legal_hold_point (
    hold_id TEXT NOT NULL, point_id TEXT NOT NULL, PRIMARY KEY (hold_id, point_id)
);
CREATE INDEX legal_hold_point_of ON legal_hold_point (point_id);
CREATE TABLE job (
    id TEXT IN_BYTE_ORDER NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, state TEXT NOT NULL,
    epoch INTEGER NOT NULL, priority INTEGER NOT NULL, site TEXT NOT NULL, organization_id TEXT,
    unit_path TEXT NOT NULL, resource_arn TEXT NOT NULL, resource_type TEXT NOT NULL, resource_name TEXT NOT NULL,
    resource_id BIGINT, vault_name TEXT, vault_arn TEXT, recovery_point_id TEXT, recovery_point_arn TEXT,
    role_arn TEXT NOT NULL, document_id TEXT, plan_id TEXT, plan_name TEXT, plan_version TEXT, rule_id TEXT,
    rule_name TEXT, selection_name TEXT, options TEXT NOT NULL, due_at BIGINT, created_at BIGINT NOT NULL,
    start_by BIGINT NOT NULL, complete_by BIGINT, completion_window BIGINT NOT NULL, started_at BIGINT,
    completed_at BIGINT, dispatched_at BIGINT, seen_at BIGINT, mover TEXT, attempts INTEGER NOT NULL,
    retry_at BIGINT, message TEXT, message_category TEXT, waiting_for TEXT NOT NULL,
    percent DOUBLE PRECISION NOT NULL, bytes_total BIGINT NOT NULL, bytes_done BIGINT NOT NULL,
    bytes_stored BIGINT NOT NULL, result TEXT NOT NULL, parent_id TEXT,
    -- The organization that sees the job beside its account: the one that trusted AWS Backup when it was made.
    monitored_by TEXT, PRIMARY KEY (id)
);

-- One run makes one job per resource, however often the scheduler looks. The instant comes first: what is made together
-- lies together.
CREATE UNIQUE INDEX job_run ON job (due_at, resource_arn, account, region, plan_name, rule_name, coalesce(plan_id, ''));

-- One backup or copy of a resource at a time.
CREATE UNIQUE INDEX job_active ON job (account, region, resource_arn)
    WHERE state IN ('RUNNING', 'ABORTING') AND kind IN ('BACKUP', 'COPY');

-- What the dispatcher and the sweeps of windows look for; each is as small as the number of open jobs.
CREATE INDEX job_waiting ON job (site, priority, start_by, id) WHERE state = 'CREATED' AND kind <> 'RESTORE';
CREATE INDEX job_waiting_restore ON job (site, priority, start_by, id) WHERE state = 'CREATED' AND kind = 'RESTORE';
CREATE INDEX job_dispatched ON job (dispatched_at) WHERE state = 'CREATED' AND dispatched_at IS NOT NULL;
CREATE INDEX job_running ON job (site) WHERE state IN ('RUNNING', 'ABORTING');
CREATE INDEX job_start_by ON job (start_by) WHERE state = 'CREATED';
CREATE INDEX job_retry ON job (retry_at) WHERE state = 'CREATED' AND retry_at IS NOT NULL;
CREATE INDEX job_complete_by ON job (complete_by) WHERE state = 'RUNNING';

-- The lists: of an account, of a resource, and of an organization by each filter, each in the order of its pages. Open jobs
-- have indexes of their own, as small as their number, so that a thousand new jobs touch a few pages and not a thousand;
-- a job comes into the large ones when it ends. What is usual (COMPLETED, SUCCESS) has none: the whole list is as good.
CREATE INDEX job_open ON job (monitored_by, kind, region, created_at, id) WHERE completed_at IS NULL;
CREATE INDEX job_open_account ON job (account, kind, region, created_at, id) WHERE completed_at IS NULL;
CREATE INDEX job_open_resource ON job (resource_arn, created_at, id) WHERE completed_at IS NULL;
CREATE INDEX job_ended ON job (monitored_by, kind, region, created_at, id) WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_completed ON job (monitored_by, kind, region, completed_at, id) WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_state ON job (monitored_by, kind, region, state, created_at, id)
    WHERE completed_at IS NOT NULL AND state <> 'COMPLETED';
CREATE INDEX job_ended_category ON job (monitored_by, kind, region, message_category, created_at, id)
    WHERE completed_at IS NOT NULL AND message_category <> 'SUCCESS';
CREATE INDEX job_ended_type ON job (monitored_by, kind, region, resource_type, created_at, id)
    WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_vault ON job (monitored_by, kind, region, vault_name, created_at, id)
    WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_plan ON job (monitored_by, kind, region, plan_name, created_at, id)
    WHERE completed_at IS NOT NULL AND plan_name IS NOT NULL;
CREATE INDEX job_ended_account ON job (account, kind, region, created_at, id, resource_type, vault_name)
    WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_account_completed ON job (account, kind, region, completed_at, id)
    WHERE completed_at IS NOT NULL;
CREATE INDEX job_ended_account_amiss ON job (account, kind, region, created_at, id)
    WHERE completed_at IS NOT NULL AND (state <> 'COMPLETED' OR message_category <> 'SUCCESS');
CREATE INDEX job_ended_resource ON job (resource_arn, created_at, id) WHERE completed_at IS NOT NULL;
CREATE INDEX job_point ON job (recovery_point_arn, kind, created_at, id) WHERE recovery_point_arn IS NOT NULL;
CREATE INDEX job_copied_into ON job (vault_arn, created_at, id) WHERE kind = 'COPY';
CREATE INDEX job_parent ON job (parent_id, created_at, id) WHERE parent_id IS NOT NULL;

-- How many jobs were made on each day (since 1970) and are in which state now. Triggers write each change into
-- job_count_delta, in the transaction that makes it and without touching a row that others want; a loop folds the
-- changes into job_count, and who reads adds both. Level says what a row still tells apart: 'all' everything, 'account'
-- neither type nor category (both ''), 'organization' neither account nor unit (both '').
CREATE TABLE job_count (
    level TEXT NOT NULL, kind TEXT NOT NULL, monitored_by TEXT NOT NULL, day BIGINT NOT NULL, account TEXT NOT NULL,
    region TEXT NOT NULL, state TEXT NOT NULL, resource_type TEXT NOT NULL, category TEXT NOT NULL,
    unit_path TEXT NOT NULL, count BIGINT NOT NULL,
    PRIMARY KEY (level, kind, monitored_by, day, account, region, state, resource_type, category, unit_path)
);
CREATE INDEX job_count_account ON job_count (level, account, kind, day);
CREATE TABLE job_count_delta (
    id SERIAL_KEY, kind TEXT NOT NULL, monitored_by TEXT NOT NULL, day BIGINT NOT NULL, account TEXT NOT NULL,
    region TEXT NOT NULL, resource_type TEXT NOT NULL, state TEXT NOT NULL, category TEXT NOT NULL,
    unit_path TEXT NOT NULL, change BIGINT NOT NULL
);
CREATE TABLE job_transition (
    id SERIAL_KEY, job_id TEXT NOT NULL, at BIGINT NOT NULL, state TEXT NOT NULL, epoch INTEGER NOT NULL,
    message TEXT NOT NULL
);
CREATE INDEX job_transition_job ON job_transition (job_id, id);

-- Runs that were missed (the server was down) and not made up for, with the reason.
CREATE TABLE skipped_run (
    document_id TEXT NOT NULL, plan_name TEXT NOT NULL, rule_name TEXT NOT NULL, region TEXT NOT NULL,
    due_at BIGINT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY (document_id, plan_name, rule_name, region, due_at)
);
CREATE TABLE audit_entry (
    id SERIAL_KEY, at BIGINT NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL,
    service TEXT NOT NULL, operation TEXT NOT NULL, principal_arn TEXT NOT NULL, person TEXT,
    source_ip TEXT NOT NULL, user_agent TEXT NOT NULL, request_id TEXT NOT NULL, decision TEXT NOT NULL,
    reason TEXT NOT NULL, parameters TEXT NOT NULL, block BIGINT
);
CREATE INDEX audit_entry_at ON audit_entry (at, id);
CREATE INDEX audit_entry_account ON audit_entry (account, id);
CREATE INDEX audit_entry_block ON audit_entry (block, id);

-- Entries sealed together: the root of their hashes, chained to the block before and signed. Stored says whether the
-- block lies in storage as well.
CREATE TABLE audit_block (
    number BIGINT NOT NULL, previous TEXT NOT NULL, root TEXT NOT NULL, entries INTEGER NOT NULL,
    first_id BIGINT NOT NULL, last_id BIGINT NOT NULL, sealed_at BIGINT NOT NULL, signature TEXT NOT NULL,
    stored BOOLEAN NOT NULL, PRIMARY KEY (number)
);
CREATE INDEX audit_block_unstored ON audit_block (stored, number);

-- Failures with one cause. The scope is the organization that watches the jobs, or the one account whose they are; an
-- incident that is not closed takes whatever else fails for its cause. What recovers by itself is each affected thing.
CREATE TABLE incident (
    id TEXT NOT NULL, scope TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL, cause TEXT NOT NULL,
    thing TEXT NOT NULL, state TEXT NOT NULL, message TEXT NOT NULL, opened_at BIGINT NOT NULL, closed_at BIGINT,
    acknowledged_at BIGINT, acknowledged_by TEXT, PRIMARY KEY (id)
);
CREATE UNIQUE INDEX incident_open ON incident (scope, cause, thing) WHERE state <> 'CLOSED';
CREATE INDEX incident_scope ON incident (scope, opened_at, id);
CREATE TABLE incident_affected (
    incident_id TEXT NOT NULL, account TEXT NOT NULL, resource_arn TEXT NOT NULL, thing TEXT NOT NULL,
    region TEXT NOT NULL, unit_path TEXT NOT NULL, job_id TEXT NOT NULL, failed_at BIGINT NOT NULL,
    recovered_at BIGINT, PRIMARY KEY (incident_id, account, resource_arn, thing)
);
CREATE INDEX incident_affected_account ON incident_affected (account, incident_id);
CREATE INDEX incident_affected_thing ON incident_affected (thing) WHERE recovered_at IS NULL;
CREATE INDEX incident_affected_unrecovered ON incident_affected (incident_id) WHERE recovered_at IS NULL;

-- Where events go, and what is on its way there. An event goes to a route once, however often it is found.
CREATE TABLE event_route (
    account TEXT NOT NULL, name TEXT NOT NULL, region TEXT NOT NULL, url TEXT NOT NULL, format TEXT NOT NULL,
    secret_name TEXT, organization_wide BOOLEAN NOT NULL, topic TEXT, detail_types TEXT NOT NULL, states TEXT NOT NULL,
    confirmation TEXT, version INTEGER NOT NULL, created_at BIGINT NOT NULL, updated_at BIGINT NOT NULL,
    PRIMARY KEY (account, name)
);
CREATE TABLE event_delivery (
    account TEXT NOT NULL, route TEXT NOT NULL, event_id TEXT NOT NULL, position BIGINT NOT NULL, body TEXT NOT NULL,
    state TEXT NOT NULL, attempts INTEGER NOT NULL, available_at BIGINT NOT NULL, created_at BIGINT NOT NULL, error TEXT,
    PRIMARY KEY (account, route, event_id)
);
CREATE INDEX event_delivery_due ON event_delivery (state, available_at);
