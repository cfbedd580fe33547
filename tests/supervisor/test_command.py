"""The name of a command, its redacted command line, and usage errors of ``trace-guard run``."""

from __future__ import annotations

import time

import pytest

from trace_guard.cli import main
from trace_guard.payload import Payload
from trace_guard.supervisor.command import name_of_command
from trace_guard.supervisor.redact_command import redact_command


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
    """The root span is named after the program, or after the script or module that an interpreter runs."""
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
    (["curl", "-ume:s3cret", "h"], ["curl", "-ume:[redacted]", "h"]),
    (["curl", "-sSfu", "me:s3cret", "h"], ["curl", "-sSfu", "me:[redacted]", "h"]),
    (["curl", "--proxy-user", "me:s3cret", "h"], ["curl", "--proxy-user", "me:[redacted]", "h"]),
    (["curl", "-xhttp://me:s3cret@h", "-x", "me:s3cret@h:80"],
     ["curl", "-xhttp://[redacted]@h", "-x", "me:[redacted]@h:80"]),
    (["curl", "-HAuthorization: Bearer s3cret", "-Hx-api-key:s3cret"],
     ["curl", "-HAuthorization: [redacted]", "-Hx-api-key:[redacted]"]),
    (["curl", "-H", "X-Api-Key: s3cret", "--header=Authorization: Custom s3cret", "--header", "Cookie: a=s3cret"],
     ["curl", "-H", "X-Api-Key: [redacted]", "--header=Authorization: [redacted]", "--header", "Cookie: [redacted]"]),
    (["curl", "-dpassword=s3cret", "-Ftoken=s3cret", "-F", "api_key=s3cret"],
     ["curl", "-dpassword=[redacted]", "-Ftoken=[redacted]", "-F", "api_key=[redacted]"]),
    (["sh", "-c", "curl -H 'X-Api-Key: s3 s3cret' -H \"Authorization: Bearer s3cret\" -ume:s3cret h"],
     ["sh", "-c", "curl -H 'X-Api-Key: [redacted]' -H \"Authorization: [redacted]\" -ume:[redacted] h"]),
    (["sh", "-c", "curl -H $'X-Api-Key: s3\\'cret' h"], ["sh", "-c", "curl -H $'X-Api-Key: [redacted]' h"]),
    (["python", "-c", "os.environ['X_KEY']='s3cret'; main()"],
     ["python", "-c", "os.environ['X_KEY']='[redacted]'; main()"]),
    (["python", "-c", 'os.environ["X_KEY"] = "s3cret"; os.environ.setdefault("X_TOKEN", "s3cret")'],
     ["python", "-c", 'os.environ["X_KEY"] = "[redacted]"; os.environ.setdefault("X_TOKEN", "[redacted]")']),
    (["python", "-c", "os.environ.update(X_KEY='s3cret', n=1); Client(api_key='s3cret')"],
     ["python", "-c", "os.environ.update(X_KEY=[redacted], n=1); Client(api_key=[redacted])"]),
    (["node", "-e", "process.env.X_KEY = `s3cret`; run({apiKey: 's3cret', 'token': 's3cret'})"],
     ["node", "-e", "process.env.X_KEY = [redacted]; run({apiKey: [redacted], 'token': '[redacted]'})"]),
    (["bash", "-c", "X_KEY=$'s3\\'cret' job; export DB_PASSWORD=$\"s3cret\" A=b"],
     ["bash", "-c", "X_KEY=[redacted] job; export DB_PASSWORD=[redacted] A=b"]),
    (["bash", "-c", "PASSWORD='s3cret'\"s3cret\"s3cret job --token $'s3cret' --n 1"],
     ["bash", "-c", "PASSWORD=[redacted] job --token [redacted] --n 1"]),
    (["bash", "-c", "PGPASSWORD=s3cret psql -h db"], ["bash", "-c", "PGPASSWORD=[redacted] psql -h db"]),
    (["job", '{"login":{"clientSecret":"s3cret","n":1}}', r'--json={\"api_key\": \"s3cret\"}'],
     ["job", '{"login":{"clientSecret":"[redacted]","n":1}}', r'--json={\"api_key\": \"[redacted]\"}']),
    (["job", '{"auth":{"n":["s3cret"]}}', "token=['s3cret', 's3cret']"],
     ["job", '{"auth":[redacted]}', "token=[redacted]"]),
    (["job", "%7B%22password%22%3A%22s3cret%22%7D"], ["job", "%7B%22password%22%3A%22[redacted]%22%7D"]),
    (["docker", "exec", "db", "mysql", "-ps3cret"], ["docker", "exec", "db", "mysql", "-p[redacted]"]),
    (["sh", "-c", "mysqldump -ps3cret db"], ["sh", "-c", "mysqldump -p[redacted] db"]),
    (["sshpass", "-p", "s3cret", "ssh", "h"], ["sshpass", "-p", "[redacted]", "ssh", "h"]),
    (["redis-cli", "-as3cret"], ["redis-cli", "-a[redacted]"]),
    (["smbclient", "-U", "me%s3cret"], ["smbclient", "-U", "me%[redacted]"]),
    (["docker", "run", "python:3.12@sha256:abc", "a:b"], ["docker", "run", "python:3.12@sha256:abc", "a:b"]),
    (["job", "host=h password=s3cret user=u"], ["job", "host=h password=[redacted] user=u"]),
    (["scp", "-P", "22", "me@h:x", "rsync://me@h/x"], ["scp", "-P", "22", "me@h:x", "rsync://me@h/x"]),
    (["python", "-m", "job", "--keys=3", "--by", "key", "--key-file", "k.pem"],
     ["python", "-m", "job", "--keys=3", "--by", "key", "--key-file", "k.pem"]),
])
def test_secrets_are_redacted(words: list[str], expected: list[str]) -> None:
    """Secrets in options, variables, headers, JSON and URLs are redacted, and so are keys of known shape."""
    found = redact_command(words, Payload(redact=["pin"]))
    assert found == expected
    assert not any("s3cret" in word or "cret'" in word for word in found)


@pytest.mark.parametrize("piece", [
    "a=", "a-", "a://", "-u ", "s://b@", "-ua:", "-H'", "token=", 'token="', "token='", "token=$'", "--token ",
    "--token '", "--a-", "['KEY']=", "['KEY'", '\\"token\\":\\"', "X-Key: ", "mysql -p", "sshpass -p ", "-p a",
    "%22token", "eyJabcdefgh.", "A", "\\", " ", "\t", '"', "':", "a:b@", "{", "Bearer ",
])
def test_the_time_grows_with_the_words(piece: str) -> None:
    """Redaction takes linear time for any input, since the command waits for it."""
    def seconds(size: int) -> float:
        word, best = (piece * size)[:size], 9.0
        for _ in range(3):
            before = time.thread_time()
            assert len(redact_command([word], Payload())) == 1
            best = min(best, time.thread_time() - before)
        return best

    assert seconds(128_000) < 10 * seconds(32_000) + 0.05


@pytest.mark.parametrize(("words", "says"), [
    (["run"], "a command is missing"),
    (["run", "--"], "a command is missing"),
    (["run", "--", ""], "a command is missing"),
    (["run", "python", "job.py"], "the command goes after `--`: trace-guard run [options] -- python job.py"),
    (["run", "job", "--", "job"], "the command goes after `--`"),
    (["run", "--graze", "3", "--", "job"], "unrecognized arguments: --graze"),
    (["run", "--grace", "soon", "--", "job"], "'soon' is not a number of seconds"),
    (["traces", "--", "job"], "only `trace-guard run` takes a command"),
])
def test_wrong_calls_are_told(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error exits with 2 and prints what is wrong."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert says in capsys.readouterr().err
