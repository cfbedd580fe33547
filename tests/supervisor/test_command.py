"""A command line as it is shown: what it is called, without its secrets; and how the tool itself is called."""

from __future__ import annotations

import time

import pytest

from trace_guard.cli import main
from trace_guard.payload import Payload
from trace_guard.supervisor.command import name_of_command
from trace_guard.supervisor.redact_command import shown


@pytest.mark.parametrize(("command", "name"), [
    (["/usr/bin/convert", "a"], "convert"),
    (["python", "jobs/nightly.py", "x"], "nightly"),
    (["python3.12", "-u", "-m", "evals.nightly", "x"], "evals.nightly"),
    (["python", "-c", "print()"], "python"),
    (["bash", "run.sh"], "run"),
    (["node"], "node"),
    (["pythonic", "x"], "pythonic"),
    (["bash", "-lc", "OPENAI_API_KEY=s3cret python job.py"], "bash"),
    (["bash", "-euo", "pipefail", "-c", "python job.py"], "bash"),
    (["bash", "-eo", "pipefail", "run.sh"], "run"),
    (["sh", "A=b run.sh"], "sh"),
    (["python", "-W", "ignore", "-Xdev", "job.py"], "job"),
    (["python", "-mjobs.main"], "jobs.main"),
    (["python", "-uc", "key='s3cret'"], "python"),
    (["node", "--eval", "x='s3cret'"], "node"),
    (["node", "-r", "dotenv/config", "job.js"], "job"),
    (["ruby", "-ne", "s3cret"], "ruby"),
    (["ruby", "-W", "-rjson", "-E", "UTF-8", "job.rb", "s3cret"], "job"),
    (["perl", "-lane", "s3cret"], "perl"),
    (["perl", "-MList::Util", "-W", "job.pl", "s3cret"], "job"),
    (["OPENAI_API_KEY=s3cret", "python", "job.py"], "OPENAI_API_KEY"),
    (["TOKEN=s3cret/s3cret python job.py"], "TOKEN"),
    (["["], "["),
    (["python", "--", "job.py"], "job"),
    (["python"], "python"),
])
def test_a_command_is_called_by_what_it_runs(command: list[str], name: str) -> None:
    """The root is named after the program, or the script or module that an interpreter runs."""
    assert name_of_command(command) == name


@pytest.mark.parametrize(("words", "expected"), [
    (["job", "--api-key", "s3cret", "--model", "m"], ["job", "--api-key", "[redacted]", "--model", "m"]),
    (["job", "--api-key=s3cret"], ["job", "--api-key=[redacted]"]),
    (["job", "--token", "--s3cret"], ["job", "--token", "[redacted]"]),
    (["job", "--password=s3cret s3cret"], ["job", "--password=[redacted]"]),
    (["env", "AWS_SECRET_ACCESS_KEY=s3cret", "PGPASSWORD=s3cret", "MYSQL_PWD=s3cret", "DB_PASS=s3cret", "job"],
     ["env", "AWS_SECRET_ACCESS_KEY=[redacted]", "PGPASSWORD=[redacted]", "MYSQL_PWD=[redacted]", "DB_PASS=[redacted]",
      "job"]),
    (["job", "--authToken", "s3cret", "--set=db.password=s3cret"],
     ["job", "--authToken", "[redacted]", "--set=db.password=[redacted]"]),
    (["job", "AccountKey=s3cret;Endpoint=e", "https://h/p?X-Amz-Signature=s3cret&n=1"],
     ["job", "AccountKey=[redacted];Endpoint=e", "https://h/p?X-Amz-Signature=[redacted]&n=1"]),
    (["git", "clone", "https://s3cret@github.com/x"], ["git", "clone", "https://[redacted]@github.com/x"]),
    (["job", "https://h:80/a@b", "ssh://git@h/x"], ["job", "https://h:80/a@b", "ssh://git@h/x"]),
    (["job", "postgres://me:s3@cret/s3cret@host/db"], ["job", "postgres://me:[redacted]@host/db"]),
    (["curl", "-u", "me:s3cret", "h"], ["curl", "-u", "me:[redacted]", "h"]),
    (["mysql", "-ps3cret", "-P3306"], ["mysql", "-p[redacted]", "-P3306"]),
    (["job", "sk-proj-s3cret12", "AKIAS3CRETS3CRETS3C", "x"], ["job", "[redacted]", "[redacted]", "x"]),
    (["job", "--by=key", "--monkey=a", "--output", "o"], ["job", "--by=key", "--monkey=a", "--output", "o"]),
    (["env", "OPENAI_API_KEY=s3cret", "A=b", "job"], ["env", "OPENAI_API_KEY=[redacted]", "A=b", "job"]),
    (["sh", "-c", "HF_TOKEN='s3 cret' job --password s3cret; next"],
     ["sh", "-c", "HF_TOKEN=[redacted] job --password [redacted]; next"]),
    (["job", "--max-tokens", "7", "--tokenizer=x"], ["job", "--max-tokens", "7", "--tokenizer=x"]),
    (["job", "postgres://me:s3cret@host/db"], ["job", "postgres://me:[redacted]@host/db"]),
    (["job", '{"password": "s3cret", "n": 1}'], ["job", '{"password": "[redacted]", "n": 1}']),
    (["curl", "-H", "Authorization: Bearer s3cret"], ["curl", "-H", "Authorization: [redacted]"]),
    (["job", "--pin=s3cret"], ["job", "--pin=[redacted]"]),
    (["curl", "--header=X-Api-Token: s3cret; s3cret", "-H", "Cookie: a=s3cret; b=s3cret"],
     ["curl", "--header=X-Api-Token: [redacted]", "-H", "Cookie: [redacted]"]),
    (["job", "-H", "X-Api-Token: Key s3cret"], ["job", "-H", "X-Api-Token: [redacted]"]),
    (["sh", "-c", "curl -u me:s3cret h; curl --user=me:s3cret h"],
     ["sh", "-c", "curl -u me:[redacted] h; curl --user=me:[redacted] h"]),
    (["env", "OPENAI_API_KEY_2=s3cret", "PASSWORD1=s3cret", "sha256=a", "oauth2=b"],
     ["env", "OPENAI_API_KEY_2=[redacted]", "PASSWORD1=[redacted]", "sha256=a", "oauth2=b"]),
])
def test_secrets_are_not_shown(words: list[str], expected: list[str]) -> None:
    """Values of options and variables whose names end in what names a secret, what stands before the host of a URL, and
    keys that are known by how they begin, are replaced."""
    found = shown(words, Payload(redact=["pin"]))
    assert found == expected
    assert not any("s3cret" in word or "cret'" in word for word in found)


@pytest.mark.parametrize("word", ["a=" * 5000, "a-" * 50_000, "a://" * 20_000 + "b@", "-u " * 30_000, "s://b@" * 9000])
def test_no_command_line_is_too_odd(word: str) -> None:
    """However a word is made up, it is shown in next to no time: the command waits for that."""
    before = time.process_time()
    assert len(shown([word], Payload())) == 1
    assert time.process_time() - before < 5


@pytest.mark.parametrize(("words", "says"), [
    (["run"], "a command is missing"),
    (["run", "--"], "a command is missing"),
    (["run", "--", ""], "a command is missing"),
    (["run", "python", "job.py"], "the command comes behind `--`: trace-guard run [options] -- python job.py"),
    (["run", "job", "--", "job"], "the command comes behind `--`"),
    (["run", "--graze", "3", "--", "job"], "unrecognized arguments: --graze"),
    (["run", "--grace", "soon", "--", "job"], "'soon' is not a number of seconds"),
    (["traces", "--", "job"], "only `trace-guard run` takes a command"),
])
def test_wrong_calls_are_told(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is called wrongly says how it is called, and ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
