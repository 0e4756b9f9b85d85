"""How long AWS's lists show a job."""

from datetime import timedelta
from pathlib import Path

import pytest
from tests.vault.builders import ACCOUNT, REGION
from tests.vault.served import SECRET, serving

from holdfast.cli.client import session
from holdfast.core.settings import Mode
from holdfast.server.configuration import ConfigurationError, load_configuration
from holdfast.server.data_directory import DataDirectory

TRUST = (
    '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",'
    '"Principal":{"Service":"backup.amazonaws.com"}}]}'
)


@pytest.mark.parametrize(("configuration", "listed"), [("", 2), ("[server]\njobs_listed_days = 30\n", 1)])
def test_jobs_are_listed_for_ever_unless_days_are_set(tmp_path: Path, configuration: str, listed: int) -> None:
    with serving(tmp_path / "data", configuration) as served:
        backup, tree = served.client(), tmp_path / "data" / "sandbox" / "tree"
        tree.mkdir(parents=True)
        keys = session(access_key=f"AKIA{ACCOUNT}", secret_key=SECRET, token=None, region=REGION)
        holdfast = keys.client("holdfast", region_name=REGION, endpoint_url=served.url)
        put = holdfast.put_resource(Name="tree", ResourceType="EFS", SourceUrl=tree.as_uri())
        arn = put["Resource"]["ResourceArn"]
        backup.create_backup_vault(BackupVaultName="main")
        iam = keys.client("iam", region_name=REGION, endpoint_url=served.url)
        role = iam.create_role(RoleName="b", AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]

        def start() -> str:
            job: str = backup.start_backup_job(BackupVaultName="main", ResourceArn=arn, IamRoleArn=role)["BackupJobId"]
            return job

        old = start()
        served.clock.advance(timedelta(days=31))
        new = start()
        jobs = [job["BackupJobId"] for job in backup.list_backup_jobs()["BackupJobs"]]
        assert jobs == [new, old][:listed]
        long_ago = served.clock.now() - timedelta(days=365)
        assert len(backup.list_backup_jobs(ByCreatedAfter=long_ago)["BackupJobs"]) == listed
        assert backup.describe_backup_job(BackupJobId=old)["State"] == "CREATED"


@pytest.mark.parametrize("days", ["0", "-1", "true", '"30"'])
def test_days_that_make_no_sense_are_refused(tmp_path: Path, days: str) -> None:
    directory = DataDirectory(tmp_path / "data")
    directory.create(Mode.DEV)
    directory.configuration.write_text(f"[server]\njobs_listed_days = {days}\n")
    with pytest.raises(ConfigurationError, match="jobs_listed_days"):
        load_configuration(directory, Mode.DEV)
