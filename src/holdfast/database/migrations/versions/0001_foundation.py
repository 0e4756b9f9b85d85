"""The first tables, as the scripts beside this file spell them."""

from holdfast.database.script import run_dialect_script, run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create everything."""
    run_script(__file__)
    run_dialect_script(__file__, "0001_counting")
