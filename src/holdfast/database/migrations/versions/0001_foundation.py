"""The first tables, as 0001_foundation.sql beside this file spells them."""

from holdfast.database.script import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    run_script(__file__)
