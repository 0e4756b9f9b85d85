// Backup through the SDK for JavaScript: a vault, a plan with a selection, a backup and a restore; prints what it saw.
import {
  BackupClient,
  CreateBackupPlanCommand,
  CreateBackupSelectionCommand,
  CreateBackupVaultCommand,
  DeleteBackupPlanCommand,
  DeleteBackupSelectionCommand,
  DescribeBackupJobCommand,
  DescribeBackupVaultCommand,
  DescribeRestoreJobCommand,
  GetBackupPlanCommand,
  GetBackupSelectionCommand,
  GetRecoveryPointRestoreMetadataCommand,
  StartBackupJobCommand,
  StartRestoreJobCommand,
  UpdateBackupPlanCommand,
  paginateListBackupJobs,
  paginateListBackupPlans,
  paginateListBackupSelections,
} from "@aws-sdk/client-backup";

const [endpoint, region, resource, role, target] = process.argv.slice(2);
const client = new BackupClient({
  endpoint,
  region,
  credentials: { accessKeyId: "testing", secretAccessKey: "testing" },
  maxAttempts: 1,
});
const call = (command) => client.send(command);
const refusal = async (command) => {
  try {
    await call(command);
    return null;
  } catch (error) {
    return { name: error.name, message: error.message, status: error.$metadata.httpStatusCode };
  }
};
const ended = async (look) => {
  for (;;) {
    const seen = await look();
    if (["COMPLETED", "FAILED", "ABORTED", "EXPIRED"].includes(seen.State ?? seen.Status)) return seen;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
};
const all = async (pages, member) => {
  const found = [];
  for await (const page of pages) found.push(...page[member]);
  return found;
};

const saw = {};
const vault = "SdkVault";
await call(new CreateBackupVaultCommand({ BackupVaultName: vault, BackupVaultTags: { team: "größe" } }));
saw.again = await refusal(new CreateBackupVaultCommand({ BackupVaultName: vault }));

const rule = { RuleName: "daily", TargetBackupVaultName: vault, Lifecycle: { DeleteAfterDays: 35 } };
const plans = [];
for (const name of ["one", "two", "three"]) {
  plans.push(await call(new CreateBackupPlanCommand({ BackupPlan: { BackupPlanName: name, Rules: [rule] } })));
}
const id = plans[0].BackupPlanId;
const changed = { BackupPlanName: "one", Rules: [{ ...rule, ScheduleExpression: "cron(0 3 ? * * *)" }] };
const version = (await call(new UpdateBackupPlanCommand({ BackupPlanId: id, BackupPlan: changed }))).VersionId;
const now = await call(new GetBackupPlanCommand({ BackupPlanId: id, MaxScheduledRunsPreview: 2 }));
const first = await call(new GetBackupPlanCommand({ BackupPlanId: id, VersionId: plans[0].VersionId }));
saw.versions = [version === now.VersionId, version !== plans[0].VersionId];
saw.schedules = [first, now].map((each) => each.BackupPlan.Rules[0].ScheduleExpression);
saw.runs = now.ScheduledRunsPreview.map((run) => run.ExecutionTime.getUTCHours());
saw.plans = (await all(paginateListBackupPlans({ client, pageSize: 2 }, {}), "BackupPlansList"))
  .map((plan) => plan.BackupPlanName)
  .sort();

const selection = {
  SelectionName: "gold",
  IamRoleArn: role,
  Resources: [resource],
  Conditions: { StringNotEquals: [{ ConditionKey: "aws:ResourceTag/stage", ConditionValue: "test" }] },
};
const selectionId = (await call(new CreateBackupSelectionCommand({ BackupPlanId: id, BackupSelection: selection })))
  .SelectionId;
const kept = await call(new GetBackupSelectionCommand({ BackupPlanId: id, SelectionId: selectionId }));
saw.selection = kept.BackupSelection.Conditions.StringNotEquals[0].ConditionValue;
saw.selections = (await all(paginateListBackupSelections({ client }, { BackupPlanId: id }), "BackupSelectionsList"))
  .map((each) => each.SelectionName);
saw.inUse = await refusal(new DeleteBackupPlanCommand({ BackupPlanId: id }));

const started = await call(
  new StartBackupJobCommand({ BackupVaultName: vault, ResourceArn: resource, IamRoleArn: role }),
);
const job = await ended(() => call(new DescribeBackupJobCommand({ BackupJobId: started.BackupJobId })));
saw.backup = { state: job.State, percent: job.PercentDone, took: job.CompletionDate >= job.CreationDate };
saw.jobs = (await all(paginateListBackupJobs({ client }, { ByState: "COMPLETED" }), "BackupJobs"))
  .map((each) => each.BackupJobId === started.BackupJobId);
saw.points = (await call(new DescribeBackupVaultCommand({ BackupVaultName: vault }))).NumberOfRecoveryPoints;

const point = job.RecoveryPointArn;
const metadata = (
  await call(new GetRecoveryPointRestoreMetadataCommand({ BackupVaultName: vault, RecoveryPointArn: point }))
).RestoreMetadata;
const restore = await call(
  new StartRestoreJobCommand({
    RecoveryPointArn: point,
    IamRoleArn: role,
    ResourceType: "EFS",
    Metadata: { ...metadata, newFileSystem: "true", "holdfast:target-url": target },
  }),
);
const restored = await ended(() => call(new DescribeRestoreJobCommand({ RestoreJobId: restore.RestoreJobId })));
saw.restore = restored.Status;

await call(new DeleteBackupSelectionCommand({ BackupPlanId: id, SelectionId: selectionId }));
saw.deleted = (await call(new DeleteBackupPlanCommand({ BackupPlanId: id }))).DeletionDate instanceof Date;
saw.gone = await refusal(new GetBackupPlanCommand({ BackupPlanId: "none" }));
console.log(JSON.stringify(saw));
