"""The view of an organization begins with its trust in AWS Backup, and fades after it."""

from tests.running import Running, join, refusal

BACKUP = "backup.amazonaws.com"


def test_the_view_begins_with_trust_and_fades_thirty_days_after_it(dev: Running) -> None:
    organizations = dev.client("organizations")
    organizations.create_organization(FeatureSet="ALL")
    member = join(dev, "shop")
    tree = member.sandbox / "tree"
    tree.mkdir()
    arn = member.register("tree", tree)
    backup = dev.client("backup")

    def seen() -> set[str]:
        return {job["BackupJobId"] for job in backup.list_backup_jobs(ByAccountId="*")["BackupJobs"]}

    member.back_up(arn)
    dev.settle(3600)
    code, sentence = refusal(backup.list_backup_jobs, ByAccountId="*")
    assert code == "AccessDeniedException"
    assert "EnableAWSServiceAccess" in sentence
    organizations.enable_aws_service_access(ServicePrincipal=BACKUP)
    assert seen() == set(), "what was before is not collected afterwards"
    collected = member.back_up(arn)
    dev.settle(3600)
    assert seen() == {collected}
    organizations.disable_aws_service_access(ServicePrincipal=BACKUP)
    unseen = member.back_up(arn)
    dev.settle(29 * 86400)
    assert seen() == {collected}
    assert refusal(backup.describe_backup_job, BackupJobId=unseen)[0] == "ResourceNotFoundException"
    dev.settle(2 * 86400)
    assert seen() == set()
    assert refusal(backup.describe_backup_job, BackupJobId=collected)[0] == "ResourceNotFoundException"
    organizations.enable_aws_service_access(ServicePrincipal=BACKUP)
    assert seen() == {collected}, "trusted again, all of the view is there again"
    assert len(member.client("backup").list_backup_jobs()["BackupJobs"]) == 3, "the member has always seen its own"
    left = member.back_up(arn)
    dev.settle(3600)
    organizations.remove_account_from_organization(AccountId=member.id)
    member.back_up(arn)
    dev.settle(3600)
    assert seen() == {collected, left}, "what it did as a member stays in view, and no more comes"
    code, _ = refusal(member.client("backup").describe_global_settings)
    assert code == "InvalidRequestException", "it is in no organization now"
