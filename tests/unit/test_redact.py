from jupyter_mlops.redact import Redactor

PATTERN = r"(?i)(password|token|secret)"


def test_the_values_of_secret_variables_are_masked_everywhere() -> None:
    redactor = Redactor.from_environment(PATTERN, {"DB_PASSWORD": "hunter2hunter2", "HOME": "/home/me"})
    assert redactor.text("login with hunter2hunter2 now") == "login with *** now"
    assert redactor.data({"a": ["hunter2hunter2", 1], "hunter2hunter2": None}) == {"a": ["***", 1], "***": None}


def test_a_password_inside_a_url_is_masked_whatever_the_variable_is_called() -> None:
    redactor = Redactor.from_environment(PATTERN, {"MLFLOW_TRACKING_URI": "https://ann:s3cr%40t-word@mlflow.example/x"})
    assert "s3cr%40t-word" not in redactor.text("https://ann:s3cr%40t-word@mlflow.example/x")
    assert redactor.text("s3cr@t-word") == "***"


def test_a_secret_is_found_in_bytes_too() -> None:
    redactor = Redactor.from_environment(PATTERN, {"DB_PASSWORD": "hünter.hunter"})
    assert redactor.found_in(b"\x80\x05" + "hünter.hunter".encode() + b"\xff")
    assert redactor.found_in(memoryview("-hünter.hunter-".encode()))
    assert not redactor.found_in("hünter-hunter".encode())
    assert not Redactor().found_in(b"anything")


def test_short_values_and_paths_are_no_secrets() -> None:
    redactor = Redactor.from_environment(PATTERN, {"TOKEN": "1", "TOKEN_FILE": "/run/secrets/token"})
    assert redactor.text("1 in /run/secrets/token") == "1 in /run/secrets/token"


def test_a_secret_that_contains_another_is_masked_whole() -> None:
    redactor = Redactor(["abcdef", "abcdefghi"])
    assert redactor.text("abcdefghi abcdef") == "*** ***"


def test_characters_of_regular_expressions_in_a_secret_are_plain_text() -> None:
    assert Redactor([".*$(a)["]).text("x .*$(a)[ y") == "x *** y"
