// A dozen operations of Organizations through the SDK for JavaScript; prints what it saw as JSON.
import {
  AttachPolicyCommand,
  CreateAccountCommand,
  CreateOrganizationCommand,
  CreateOrganizationalUnitCommand,
  CreatePolicyCommand,
  DescribeAccountCommand,
  DescribeEffectivePolicyCommand,
  DescribeOrganizationCommand,
  EnableAWSServiceAccessCommand,
  EnablePolicyTypeCommand,
  InviteAccountToOrganizationCommand,
  ListParentsCommand,
  ListRootsCommand,
  ListTagsForResourceCommand,
  MoveAccountCommand,
  OrganizationsClient,
  TagResourceCommand,
  paginateListAccounts,
} from "@aws-sdk/client-organizations";

const client = new OrganizationsClient({
  endpoint: process.argv[2],
  region: "us-east-1",
  credentials: { accessKeyId: "testing", secretAccessKey: "testing" },
  maxAttempts: 1,
});
const call = (command) => client.send(command);
const refusal = async (command) => {
  try {
    await call(command);
    return null;
  } catch (error) {
    return { name: error.name, reason: error.Reason ?? null, status: error.$metadata.httpStatusCode };
  }
};

const saw = {};
saw.before = await refusal(new DescribeOrganizationCommand({}));
saw.organization = (await call(new CreateOrganizationCommand({ FeatureSet: "ALL" }))).Organization;
const root = (await call(new ListRootsCommand({}))).Roots[0].Id;
const unit = (await call(new CreateOrganizationalUnitCommand({ ParentId: root, Name: "Prod" }))).OrganizationalUnit;
saw.again = await refusal(new CreateOrganizationalUnitCommand({ ParentId: root, Name: "Prod" }));
const accounts = [];
for (const name of ["shop", "bank", "mill"]) {
  const status = (await call(new CreateAccountCommand({ AccountName: name, Email: `${name}@example.com` })))
    .CreateAccountStatus;
  accounts.push(status.AccountId);
}
await call(new MoveAccountCommand({ AccountId: accounts[0], SourceParentId: root, DestinationParentId: unit.Id }));
saw.parent = (await call(new ListParentsCommand({ ChildId: accounts[0] }))).Parents[0].Id === unit.Id;
const account = (await call(new DescribeAccountCommand({ AccountId: accounts[0] }))).Account;
saw.joined = account.JoinedTimestamp instanceof Date;
saw.path = account.Paths[0] === `${unit.Path}${accounts[0]}/`;
saw.pages = 0;
saw.accounts = [];
for await (const page of paginateListAccounts({ client, pageSize: 3 }, {})) {
  saw.pages += 1;
  saw.accounts.push(...page.Accounts.map((one) => one.Name));
}
await call(new TagResourceCommand({ ResourceId: unit.Id, Tags: [{ Key: "team", Value: "größe" }] }));
saw.tags = (await call(new ListTagsForResourceCommand({ ResourceId: unit.Id }))).Tags;
await call(new EnableAWSServiceAccessCommand({ ServicePrincipal: "backup.amazonaws.com" }));
await call(new EnablePolicyTypeCommand({ RootId: root, PolicyType: "TAG_POLICY" }));
const policy = (
  await call(
    new CreatePolicyCommand({
      Type: "TAG_POLICY",
      Name: "tags",
      Description: "",
      Content: JSON.stringify({ tags: { team: { tag_key: { "@@assign": "Team" } } } }),
    }),
  )
).Policy.PolicySummary;
await call(new AttachPolicyCommand({ PolicyId: policy.Id, TargetId: unit.Id }));
const effective = await call(new DescribeEffectivePolicyCommand({ PolicyType: "TAG_POLICY", TargetId: accounts[0] }));
saw.effective = JSON.parse(effective.EffectivePolicy.PolicyContent);
saw.invitation = await refusal(
  new InviteAccountToOrganizationCommand({ Target: { Type: "EMAIL", Id: "nobody" } }),
);
console.log(JSON.stringify(saw));
