import logging
import subprocess
import sys

import pytest

from reconpatch.errors import ModelError
from reconpatch.text.redaction import origin_of, redact, redact_process


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("at http://ada:s3cret-pw@host:5000/x (no answer)", "at http://***@host:5000/x (no answer)"),
        ("https://t0ken@host", "https://***@host"),
        ("postgresql://ada:s'ec@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg2://u:p@ss@db/mlflow", "postgresql+psycopg2://***@db/mlflow"),
        ("postgresql://u:pa/ss?w@db/mlflow", "postgresql://***@db/mlflow"),
        ("'http://a:b@one' and 'http://c:d@two'", "'http://***@one' and 'http://***@two'"),
        ("models:/reconpatch-demo-brick@champion", "models:/reconpatch-demo-brick@champion"),
        ("http://host:5000/models:/name@champion", "http://host:5000/models:/name@champion"),
        ("http://host/name@champion", "http://host/name@champion"),
        ("sqlite:////srv/project/mlflow.db", "sqlite:////srv/project/mlflow.db"),
        ("mail ada@host.example", "mail ada@host.example"),
        ("http://u:pa ss@host/x", "http://***@host/x"),
        ("'http://u:pa'ss\"es@host'", "'http://***@host'"),
        ("http://u:pa\nss@host failed", "http://***@host failed"),
        ("'http://u:pa\\nss@host'", "'http://***@host'"),
        ("http://host:5000 is away; mail ada@host", "http://host:5000 is away; mail ada@host"),
        ("http://host:5000, or mail ada@host", "http://host:5000, or mail ada@host"),
        ("http://[::1]:5000/x for ada@host", "http://[::1]:5000/x for ada@host"),
        ("at http://host: refused for ada@host", "at http://host: refused for ada@host"),
        ("http://h/x?password=s3c'ret%20x&a=1", "http://h/x?password=***&a=1"),
        ("http://h/x?a=1&token=abc#f", "http://h/x?a=1&token=***#f"),
        (
            "https://b/x?X-Amz-Credential=AK%2F1&X-Amz-Signature=ab12",
            "https://b/x?X-Amz-Credential=***&X-Amz-Signature=***",
        ),
        ("https://b/x?sv=2&sig=ab%3D&se=3", "https://b/x?sv=2&sig=***&se=3"),
        (
            '{"url": "https://b/?access_token=abc", "api_key=k": 1}',
            '{"url": "https://b/?access_token=***", "api_key=***": 1}',
        ),
        ("host=db password='s e c' dbname=x", "host=db password=*** dbname=x"),
        ("?AWSAccessKeyId=AK&Signature=s", "?AWSAccessKeyId=***&Signature=***"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
        ("{'Authorization': 'Basic YWRh'}", "{'Authorization': 'Basic ***'}"),
        ("design=4 sigma=2 tokens=3 key=value", "design=4 sigma=2 tokens=3 key=value"),
    ],
)
def test_users_and_passwords_are_left_out_and_nothing_else(text: str, told: str) -> None:
    assert redact(text) == told


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://hooks.example/T0/SECRET?key=SECRET", "https://hooks.example"),
        ("http://ada:SECRET@127.0.0.1:9#SECRET", "http://127.0.0.1:9"),
        ("https://[::1]:9/SECRET", "https://[::1]:9"),
        ("hooks.example/SECRET", "no URL"),
        ("https://u:p/w@host/SECRET", "no URL"),
        ("http://127.0.0.1:80a/SECRET", "no URL"),
    ],
)
def test_of_a_secret_url_only_scheme_and_host_are_told(url: str, told: str) -> None:
    assert origin_of(url) == told


SECRET = "s3cret pw"
URL = f"http://ada:{SECRET}@host:5000"


def test_our_own_errors_never_show_a_password() -> None:
    assert str(ModelError(f"{URL}: does not answer")) == "http://***@host:5000: does not answer"


# In a process of its own: what is installed stays installed.
_PROGRAM = """
import logging, sys, threading
from reconpatch.text.redaction import redact_process
redact_process(); redact_process()
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
url = sys.argv[1]
logging.getLogger("other").info("at %s and %s", url, 3)
logging.getLogger("access").info('"%s" %d', f"GET /?token={url[11:14]}", 200)
logging.getLogger("other").info("%r", ValueError(url))
logging.getLogger("other").info("broken %s %s", 1)
try:
    try:
        raise ConnectionError(url)
    except ConnectionError as error:
        raise RuntimeError("refused") from error
except RuntimeError:
    logging.exception("a record with a cause")
def fail(): raise OSError(url)
thread = threading.Thread(target=fail); thread.start(); thread.join()
raise LookupError("the end") from ConnectionError(url)
"""


def test_records_tracebacks_and_the_end_of_a_process_show_no_password() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, URL], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert SECRET not in said
    for kept in ("at http://***@host:5000 and 3", '"GET /?token=***" 200', "ConnectionError: http://***@host",
                 "RuntimeError: refused", "OSError: http://***", "LookupError: the end"):  # fmt: skip
        assert kept in said, kept


def test_a_record_without_a_secret_is_left_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    before = logging.getLogRecordFactory()
    try:
        redact_process()
        made = logging.getLogRecordFactory()
        try:
            raise ValueError("no secret")
        except ValueError:
            record = made("a", 20, __file__, 1, "%s of %d", ("text", 3), sys.exc_info())
    finally:
        logging.setLogRecordFactory(before)
    assert (record.msg, record.args, record.exc_text) == ("%s of %d", ("text", 3), None)
    assert record.exc_info is not None
