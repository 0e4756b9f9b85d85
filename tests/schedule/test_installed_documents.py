"""Documents taken out for the scheduler."""

import json

from sqlalchemy import text
from tests.policy.builders import NOW, a_chain, a_plan, a_policy, assign

from holdfast.database.connection import Database
from holdfast.policy.model.merge import effective
from holdfast.schedule import service


def test_a_region_that_a_policy_names_twice_is_scheduled_once(sqlite_database: Database) -> None:
    policy = a_policy(core=a_plan(regions=assign(["eu-north-1", "us-east-1", "eu-north-1"])))
    content = json.dumps(effective(a_chain([policy])).document)
    with sqlite_database.transaction() as tx:
        tx.execute(
            text("INSERT INTO document (id, type, content, created_at) VALUES ('d', 'BACKUP_POLICY', :content, 0)"),
            {"content": content},
        )
        assert service.install_documents(tx, now=NOW) == 1
        regions = tx.execute(text("SELECT region FROM document_rule ORDER BY region")).scalars().all()
    assert regions == ["eu-north-1", "us-east-1"]
