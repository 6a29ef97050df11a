import pytest

from reconpatch.redaction import origin_of, without_user_info


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
    ],
)
def test_users_and_passwords_are_left_out_and_nothing_else(text: str, told: str) -> None:
    assert without_user_info(text) == told


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
