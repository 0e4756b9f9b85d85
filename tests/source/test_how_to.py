"""The how-to pages on sources: every command in them is run as it stands, against a development server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.source.conftest import Server

from holdfast.cli.process import start_dev

HOW_TO = Path(__file__).parents[2] / "docs/how-to"


def commands(page: str, language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", (HOW_TO / page).read_text(), re.DOTALL))


@pytest.mark.deep
@pytest.mark.postgres
def test_the_pages_on_sources_do_what_they_say(server: Server, tmp_path: Path) -> None:
    (tmp_path / "srv/www").mkdir(parents=True)
    (tmp_path / "srv/www/index").write_text("hello")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/holdfast").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m holdfast.cli.main "$@"\n')
    (tmp_path / "bin/holdfast").chmod(0o755)
    server.run("postgres", "CREATE DATABASE shop_of_page")
    server.run("shop_of_page", "CREATE TABLE item AS SELECT generate_series(1, 1000) i")
    server.run(
        "postgres", *[line for line in commands("back-up-postgresql.md", "sql").split(";") if line.strip()[:1] != "-"]
    )
    server.run("postgres", "ALTER ROLE backup CREATEDB")
    path = os.pathsep.join((str(tmp_path / "bin"), str(Path(sys.executable).parent), server.tools, os.environ["PATH"]))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PATH", path)
        started = start_dev(
            tmp_path / "data",
            *("--grant", str(tmp_path / "srv")),
            *("--grant", f"postgresql://localhost:{server.port}"),
            log=tmp_path / "log",
        )
    try:
        script = "\n".join(
            (
                "set -eu",
                "aws organizations create-organization",
                commands("back-up-a-directory.md", "sh"),
                commands("back-up-postgresql.md", "sh"),
            )
        )
        for page, here in (
            ("/srv", f"{tmp_path}/srv"),
            ("postgresql://localhost", f"postgresql://localhost:{server.port}"),
            ("--host localhost", f"--host localhost --port {server.port}"),
            ("localhost/shop", "localhost/shop_of_page"),
            (f"{server.port}/shop", f"{server.port}/shop_of_page"),
            ("=shop_restored", "=shop_of_page_restored"),
        ):
            script = script.replace(page, here)
        done = subprocess.run(
            ["bash"],
            input=script,
            env={
                "PATH": path,
                "PYTHONPATH": os.pathsep.join(sys.path),
                "AWS_ENDPOINT_URL": started.url,
                "AWS_DEFAULT_REGION": "eu-north-1",
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_EC2_METADATA_DISABLED": "true",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        started.stop()
        for pipe in (started.process.stdin, started.process.stdout):
            if pipe is not None:
                pipe.close()
    assert done.returncode == 0, done.stderr
    assert "FAILED" not in done.stdout, done.stdout
    assert (tmp_path / "srv/www-restored/index").read_text() == "hello"
    (landed,) = (tmp_path / "srv/www").glob("aws-backup-restore_*/index")
    assert landed.read_text() == "hello"
    assert server.ask("shop_of_page_restored", "SELECT count(*) FROM item") == 1000
