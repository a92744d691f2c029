"""Loads a web configuration file. All errors are reported at once, each with its line."""

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from exporter.config.load import read_config_text
from exporter.config.problems import ConfigErrors, ConfigProblem, problem_lines, schema_problems
from exporter.config.sizes import quote_value
from exporter.config.yaml_positions import InvalidYaml, YamlDocument, parse_yaml
from exporter.web_config import tls
from exporter.web_config.schema import HEADERS, WebFile
from exporter.web_config.settings import WebConfig

# A bcrypt hash: version, cost, 22 letters of salt, 31 of hash.
_BCRYPT_HASH = re.compile(r"\$2[abxy]?\$(?:0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
# The characters of a header value: https://www.rfc-editor.org/rfc/rfc9110#section-5.5
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")


def load(path: Path) -> WebConfig:
    """Load the configuration of one file, with its certificates. Raises ConfigErrors."""
    path = path.absolute()
    document = _read_web_document(path)
    try:
        file = WebFile.model_validate({} if document.data is None else document.data)
    except ValidationError as error:
        raise ConfigErrors(problem_lines(path, document, schema_problems(error, WebFile))) from error
    problems = [*_header_problems(file), *_user_problems(file)]
    context = None
    if file.tls_server_config.is_wanted:
        try:
            context = tls.create_tls_context(file.tls_server_config, path.parent)
        except tls.TlsProblem as error:
            problems.append(ConfigProblem(("tls_server_config", error.key), str(error)))
    if problems:
        raise ConfigErrors(problem_lines(path, document, problems))
    names = file.tls_server_config.client_allowed_sans
    return WebConfig(
        files=(path, *tls.tls_files(file.tls_server_config, path.parent)),
        tls=context,
        allowed_names=None if names is None else frozenset(names),
        users=file.basic_auth_users,
        headers=file.http_server_config.headers,
        rate_interval=file.rate_limit.interval,
        rate_burst=file.rate_limit.burst,
        http2_asked=file.http_server_config.http2 and "http2" in file.http_server_config.model_fields_set,
    )


def _read_web_document(path: Path) -> YamlDocument:
    try:
        return parse_yaml(read_config_text(path))
    except InvalidYaml as error:
        raise ConfigErrors((f"{path}:{error.line}: {error}",)) from error


def _header_problems(file: WebFile) -> Iterator[ConfigProblem]:
    for name, value in file.http_server_config.headers.items():
        loc = ("http_server_config", "headers", name)
        if name not in HEADERS:
            yield ConfigProblem(loc, f"this header cannot be configured; known: {', '.join(HEADERS)}")
        elif (known := HEADERS[name]) is not None and value not in known:
            yield ConfigProblem(loc, f"{quote_value(value)} is not known; write {' or '.join(known)}")
        elif not _HEADER_VALUE.fullmatch(value):
            yield ConfigProblem(loc, "a header must be one line of printable ASCII")


def _user_problems(file: WebFile) -> Iterator[ConfigProblem]:
    """Yield the users without a valid hash. The value is not shown, since it may be a secret."""
    for name, value in file.basic_auth_users.items():
        if not _BCRYPT_HASH.fullmatch(value):
            cure = "write the output of `queuekeeper hash-password`"
            yield ConfigProblem(("basic_auth_users", name), f"this is not a bcrypt hash; {cure}")
