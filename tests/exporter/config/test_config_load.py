"""A configuration file either loads whole, or says everything that is wrong with it, each with its line and cure."""

import os
from datetime import UTC
from pathlib import Path

import pytest

from actions.model.options import ActionOption
from actions.policy.windows import Window
from collectors.metric import Metric
from exporter.config.load import example_text, known_actions, known_metrics, load_config
from exporter.config.problems import ConfigErrors
from exporter.config.settings import Config

ACTIONS = {
    "checkpoint": {
        "mode": ActionOption("word", "one of auto, truncate", ("auto", "truncate")),
        "stall": ActionOption("seconds", "a time in seconds"),
    },
    "backup": {"name": ActionOption("text", "a name")},
    "requeue": {
        "guarded": ActionOption("flag", "true or false"),
        "limit": ActionOption("count", "a whole number above 0"),
        "workers_stopped": ActionOption("flag", "true or false", by_person=True),
    },
}
METRICS = {
    "sqlite_wal_backlog_bytes": Metric("sqlite_wal_backlog_bytes", "x"),
    "sqlite_wal_state": Metric("sqlite_wal_state", "x", ("state",)),
    "sqlite_queue_stale_leases": Metric("sqlite_queue_stale_leases", "x", ("queue",)),
    "sqlite_backup_age_seconds": Metric("sqlite_backup_age_seconds", "x"),
}
MINIMAL = "databases:\n  - path: /var/lib/app/queue.db\n"
RULE = """rules:
  - name: wal
    when: {sqlite_wal_backlog_bytes: {above: 64MiB}}
    on: {threshold: {for: 1m}}
    do: checkpoint
"""


def loaded(folder: Path, text: str) -> Config:
    file = folder / "queuekeeper.yaml"
    file.write_text(text)
    return load_config(file, ACTIONS, METRICS)


def errors(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        loaded(folder, text)
    prefix = f"{folder}/queuekeeper.yaml:"
    assert all(line.startswith(prefix) for line in caught.value.lines)
    return [line.removeprefix(prefix) for line in caught.value.lines]


def test_the_shipped_example_loads_without_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "queuekeeper.yaml"
    file.write_text(example_text())
    config = load_config(file, known_actions(), known_metrics())
    assert config.warnings == ()
    assert [rule.name for rule in config.rules] == [
        "wal-backlog",
        "wal-reset-starved",
        "stale-leases",
        "backup-due",
        "free-pages",
        "backup-never",
    ]
    assert config.limits.wal_growth(1024**3) == 256 * 1024**2
    assert not config.acting.enabled


def test_the_whole_contract_loads_and_warns_that_nothing_prunes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret-s3cret-s3cret\n")
    token.chmod(0o600)
    config = loaded(
        tmp_path,
        f"""identity: host-a:9977
databases:
  - name: jobs
    path: /var/lib/app/queue.db
    profile: auto
    owner_sqlite: 3.51.3
    settings: {{grace: 60s}}
    backup:
      directory: /var/backups/queues
      keep: {{last: 10, hourly: 24, daily: 7, weekly: 4, monthly: 6}}
      compress: zstd
poll: {{interval: 15s, slow_interval: 1h, rescan: 1m}}
limits:
  {{write_lock: 50ms, checkpoint_wait: 125ms, read_wal: 2s, read_rollback: 50ms, wal_growth: max(64MiB, 25%),
   disk_reserve: 256MiB}}
actions:
  enabled: true
  allow: {{token_files: [{token}], users: [], client_sans: []}}
  windows: {{vacuum: "02:00-04:00", purge: "02:00-04:00"}}
  concurrency: {{short: 4, long: 1}}
  quota_per_hour: 12
  fresh_backup: 24h
  checkpoint_vulnerable_owner: false
rules:
  - name: wal-backlog
    when: {{sqlite_wal_backlog_bytes: {{above: 64MiB, clear: 8MiB}}}}
    on: {{threshold: {{for: 1m}}, alert: ['alertname="QueueWalBacklog"']}}
    do: checkpoint
    cooldown: 10m
  - name: old-backup
    when: {{sqlite_backup_age_seconds: {{absent: 26h}}}}
    on: {{threshold: {{for: 1m}}}}
    do: backup
  - name: stale-leases
    when: {{sqlite_queue_stale_leases: {{above: 0, where: {{queue: mail}}}}}}
    on: {{threshold: {{for: 2m}}, alert: ['alertname="QueueStaleLeases"']}}
    do: requeue
    options: {{guarded: true, limit: 500}}
schedules:
  - {{name: daily-backup, cron: "0 3 * * *", do: backup, jitter: 5m}}
state: /var/lib/queuekeeper
""",
    )
    (jobs,) = config.databases
    assert jobs.settings == {"grace": 60.0}
    assert jobs.backup is not None
    assert jobs.backup.compress == "zstd"
    wal, old, stale = config.rules
    assert (wal.condition.above, wal.condition.clear, wal.hold, wal.cooldown) == (
        64 * 1024**2,
        8 * 1024**2,
        60.0,
        600.0,
    )
    assert (old.condition.absent, old.required_hold) == (26 * 3600.0, 26 * 3600.0 + 60.0)
    assert (wal.radius.databases, wal.radius.share, wal.radius.within) == (10, 0.1, 600.0)
    (daily,) = config.schedules
    assert (daily.action, daily.jitter, daily.catch_up, daily.timezone) == ("backup", 300.0, 0.0, UTC)
    assert stale.options == {"guarded": True, "limit": 500}
    assert stale.condition.where == {"queue": "mail"}
    assert config.acting.fresh_backup == 86400
    assert config.acting.windows == {"vacuum": Window(120, 240), "purge": Window(120, 240)}
    assert (config.limits.wal_growth_bytes, config.limits.wal_growth_ratio) == (64 * 1024**2, 0.25)
    assert len(config.acting.token_digests) == 1
    assert "s3cret" not in repr(config)
    warned = [line.split(": ", 2)[1] for line in config.warnings]
    assert warned == [
        "databases[0].backup.keep",
    ]
    assert "no rule or schedule prunes: add a schedule" in config.warnings[0]


BAD = {
    "unknown key": (
        "databases:\n  - path: /a.db\n    profil: huey\n",
        [
            (
                '3: databases[0].profil: unknown key; did you mean "profile"? '
                "known: backup, name, owner_sqlite, path, profile, settings"
            )
        ],
    ),
    "unknown key at the top": (
        MINIMAL + "rule: []\n",
        [
            (
                '3: rule: unknown key; did you mean "rules"? '
                "known: actions, databases, identity, limits, poll, rules, schedules, state, timezone"
            )
        ],
    ),
    "missing databases": ("poll: {interval: 15s}\n", ["1: databases: is missing; it must be given"]),
    "no databases": (
        "databases: []\n",
        ["1: databases: []: list should have at least 1 item after validation, not 0"],
    ),
    "missing path": ("databases:\n  - name: jobs\n", ["2: databases[0].path: is missing; it must be given"]),
    "a number for a version": (
        MINIMAL + "    owner_sqlite: 3.51\n",
        ['3: databases[0].owner_sqlite: 3.51 is read as a number or a truth value; put it in quotes: "3.51"'],
    ),
    "half a version": (
        MINIMAL + '    owner_sqlite: "3.51"\n',
        ['3: databases[0].owner_sqlite: "3.51" does not fit; write three numbers, like 3.51.3'],
    ),
    "a duration without a unit": (
        MINIMAL + "poll: {interval: 15}\n",
        ["3: poll.interval: 15 is not a duration; write it with a unit, like 15s, 50ms or 26h"],
    ),
    "a size in the wrong unit": (
        MINIMAL + "limits:\n  disk_reserve: 64mb\n",
        ['4: limits.disk_reserve: "64mb" is not a size; write it with a unit, like 64MiB'],
    ),
    "a budget": (
        MINIMAL + "limits: {wal_growth: max(64MiB)}\n",
        [
            (
                '3: limits.wal_growth: "max(64MiB)" is not a budget; '
                "write a size, a share, or the larger of both: max(64MiB, 25%)"
            )
        ],
    ),
    "an unknown action": (
        MINIMAL + RULE.replace("do: checkpoint", "do: chekpoint"),
        ['7: rules[0].do: "chekpoint" is not an action; did you mean "checkpoint"? known: backup, checkpoint, requeue'],
    ),
    "an unknown metric": (
        MINIMAL + RULE.replace("sqlite_wal_backlog_bytes", "sqlite_wal_backlog"),
        [
            (
                '5: rules[0].when.sqlite_wal_backlog: "sqlite_wal_backlog" is not a metric of a database; '
                'did you mean "sqlite_wal_backlog_bytes"? '
                "known: sqlite_backup_age_seconds, sqlite_queue_stale_leases, sqlite_wal_backlog_bytes, sqlite_wal_state"
            )
        ],
    ),
    "an unknown label": (
        MINIMAL + RULE.replace("{above: 64MiB}", "{above: 64MiB, where: {queue: mail}}"),
        [
            (
                "5: rules[0].when.sqlite_wal_backlog_bytes.where.queue: "
                '"queue" is not a label of sqlite_wal_backlog_bytes; known: none'
            )
        ],
    ),
    "two bounds": (
        MINIMAL + RULE.replace("{above: 64MiB}", "{above: 64MiB, below: 1}"),
        [
            (
                "5: rules[0].when.sqlite_wal_backlog_bytes: "
                "write one of `above`, `below` or `absent`: `above` and `below` are given"
            )
        ],
    ),
    "healed above the bound": (
        MINIMAL + RULE.replace("{above: 64MiB}", "{above: 8, clear: 9}"),
        ["5: rules[0].when.sqlite_wal_backlog_bytes.clear: healed at 9 would still be above 8; write less"],
    ),
    "nothing starts it": (
        MINIMAL + RULE.replace("{threshold: {for: 1m}}", "{}"),
        ["6: rules[0].on: no trigger can start this rule; give `threshold: {for: 1m}`, `alert: [...]` or both"],
    ),
    "a bad matcher": (
        MINIMAL + RULE.replace("{threshold: {for: 1m}}", "{alert: ['=x']}"),
        ["6: rules[0].on.alert[0]: not a matcher: '=x'; write alertname=\"QueueStaleLeases\""],
    ),
    "a matcher for everything": (
        MINIMAL + RULE.replace("{threshold: {for: 1m}}", "{alert: ['alertname=~\".*\"']}"),
        [
            '6: rules[0].on.alert[0]: alertname=~".*" would match every alert; name one: alertname="QueueStaleLeases"',
        ],
    ),
    "an unknown option": (
        MINIMAL + RULE + "    options: {mood: auto}\n",
        ['8: rules[0].options: "mood" is not an option: did you mean "mode"? known: mode, stall'],
    ),
    "a time that is none": (
        MINIMAL + RULE + "    options: {stall: soon}\n",
        ["8: rules[0].options: \"stall\" cannot be 'soon': it is a time in seconds"],
    ),
    "an option of the wrong kind": (
        MINIMAL + RULE + "    options: {mode: [auto]}\n",
        ["8: rules[0].options.mode: an option is a text, a number, true, false or null"],
    ),
    "a person's option": (
        MINIMAL + RULE.replace("checkpoint", "requeue") + "    options: {workers_stopped: true}\n",
        ['8: rules[0].options: "workers_stopped" can only be given by a person on the command line'],
    ),
    "a database that is not configured": (
        MINIMAL + RULE + "    databases: [queu]\n",
        ['8: rules[0].databases[0]: "queu" is not a configured database; did you mean "queue"? known: queue'],
    ),
    "two rules of one name": (
        MINIMAL + RULE + RULE.removeprefix("rules:\n"),
        ['8: rules[1].name: "wal" is also the name of rules[0]'],
    ),
    "two databases of one name": (
        "databases:\n  - {name: a, path: /a.db}\n  - {name: a, path: /b.db}\n",
        ['3: databases[1].name: "a" is also the name of databases[0]'],
    ),
    "one path twice": (
        "databases:\n  - {name: a, path: /a.db}\n  - {name: b, path: /x/../a.db}\n",
        ["3: databases[1].path: the same path as databases[0]"],
    ),
    "a name for a glob": (
        "databases:\n  - {name: a, path: /q/*.db}\n",
        ["2: databases[0].name: a glob takes the names from the files; leave `name` out"],
    ),
    "a name that is a path": (
        "databases:\n  - {name: ../etc, path: /q/a.db}\n",
        ['2: databases[0].name: "../etc" does not fit; write letters, digits, dot, dash and underscore, at most 64'],
    ),
    "a bad cron": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 25 * * *", do: backup}\n',
        ['4: schedules[0].cron: "0 25 * * *" is not a cron expression: Bad hour; e.g. "0 3 * * *"'],
    ),
    "a cron that never comes": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 0 LW * */7", do: backup}\n',
        ['4: schedules[0].cron: "0 0 LW * */7" never comes; is there such a day?'],
    ),
    "a schedule of no action": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 3 * * *", do: restore}\n',
        ['4: schedules[0].do: "restore" is not an action; known: backup, checkpoint, requeue'],
    ),
    "a schedule's option": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 3 * * *", do: requeue, options: {workers_stopped: true}}\n',
        ['4: schedules[0].options: "workers_stopped" can only be given by a person on the command line'],
    ),
    "a schedule of a database that is not configured": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 3 * * *", do: checkpoint, databases: [queu]}\n',
        ['4: schedules[0].databases[0]: "queu" is not a configured database; did you mean "queue"? known: queue'],
    ),
    "two schedules of one name": (
        MINIMAL + "schedules:\n" + 2 * '  - {name: s, cron: "0 3 * * *", do: checkpoint}\n',
        ['5: schedules[1].name: "s" is also the name of schedules[0]'],
    ),
    "no time zone": (
        MINIMAL + "timezone: Europe/Berln\n",
        [
            (
                '3: timezone: "Europe/Berln" is not a time zone of this machine; '
                'write one like "Europe/Berlin"; where even that fails, install the package tzdata'
            )
        ],
    ),
    "a time zone that is a path": (
        MINIMAL + 'schedules:\n  - {name: s, cron: "0 3 * * *", do: checkpoint, timezone: ../../etc/passwd}\n',
        [
            (
                '4: schedules[0].timezone: "../../etc/passwd" is not a time zone of this machine; '
                'write one like "Europe/Berlin"; where even that fails, install the package tzdata'
            )
        ],
    ),
    "a share of more than all": (
        MINIMAL + "actions: {blast_radius: {share: 110%}}\n",
        ['3: actions.blast_radius.share: "110%": input should be less than or equal to 1'],
    ),
    "a radius of nothing": (
        MINIMAL + RULE + "    blast_radius: {databases: 0}\n",
        ["8: rules[0].blast_radius.databases: 0: input should be greater than or equal to 1"],
    ),
    "a key twice": (
        MINIMAL + "poll: {interval: 15s}\npoll: {interval: 16s}\n",
        ['4: the key "poll" was given before, in line 3'],
    ),
    "not YAML": (
        "databases: [\n",
        ["2: not YAML: while parsing a flow node expected the node content, but found '<stream end>'"],
    ),
    "an alias in itself": (
        "databases: &a\n  - *a\n",
        ["1: more than 100000 values or 32 levels; does an alias contain itself?"],
    ),
    "a list": ("- a\n", ["1: no configuration in it; start from `queuekeeper config example`"]),
    "nothing": ("", ["1: no configuration in it; start from `queuekeeper config example`"]),
    "several at once": (
        "databases:\n  - path: 5\n    nam: x\npoll:\n  interval: fast\nactions: {quota_per_hour: 0}\n",
        [
            '2: databases[0].path: 5 is read as a number or a truth value; put it in quotes: "5"',
            (
                '3: databases[0].nam: unknown key; did you mean "name"? '
                "known: backup, name, owner_sqlite, path, profile, settings"
            ),
            '5: poll.interval: "fast" is not a duration; write it with a unit, like 15s, 50ms or 26h',
            "6: actions.quota_per_hour: 0: input should be greater than or equal to 1",
        ],
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_says_where_what_and_the_cure(tmp_path: Path, case: str) -> None:
    text, expected = BAD[case]
    assert errors(tmp_path, text) == expected


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "nowhere.yaml", ACTIONS, METRICS)


def test_bytes_that_are_no_text_are_placed(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_bytes(b"databases:\n  - path: /\xff.db\n")
    with pytest.raises(ConfigErrors, match=r"c\.yaml:2: not UTF-8"):
        load_config(file, ACTIONS, METRICS)


def test_a_rule_may_name_any_database_when_a_glob_makes_names_unknown(tmp_path: Path) -> None:
    config = loaded(tmp_path, "databases:\n  - path: /q/*.db\n" + RULE + "    databases: [later]\n")
    assert config.rules[0].databases == ("later",)


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    config = loaded(tmp_path, "databases:\n  - path: app/queue.db\nstate: our-state\n")
    assert config.databases[0].path == f"{tmp_path}/app/queue.db"
    assert config.state == tmp_path / "our-state"


def test_a_schedule_takes_its_own_time_zone_else_that_of_the_file_else_utc(tmp_path: Path) -> None:
    text = MINIMAL + "schedules:\n" + '  - {name: a, cron: "0 3 * * *", do: checkpoint}\n'
    own = text + '  - {name: b, cron: "0 3 * * *", do: checkpoint, timezone: UTC, catch_up: 12h, priority: 3}\n'
    (alone,) = loaded(tmp_path, text).schedules
    both = loaded(tmp_path, own + "timezone: Europe/Berlin\n")
    assert alone.timezone is UTC
    assert [str(schedule.timezone) for schedule in both.schedules] == ["Europe/Berlin", "UTC"]
    assert (both.schedules[1].catch_up, both.schedules[1].priority) == (43_200.0, 3)
    assert str(both.timezone) == "Europe/Berlin"


@pytest.mark.parametrize(("written", "seconds"), [("2s", 2.0), ("1h30m", 5400.0), ("2", 2), ("1.5", 1.5)])
def test_a_time_among_the_options_is_written_as_every_time(tmp_path: Path, written: str, seconds: float) -> None:
    (rule,) = loaded(tmp_path, MINIMAL + RULE + f"    options: {{stall: {written}}}\n").rules
    assert rule.options == {"stall": seconds}
    schedule = f'schedules:\n  - {{name: s, cron: "0 3 * * *", do: checkpoint, options: {{stall: {written}}}}}\n'
    assert loaded(tmp_path, MINIMAL + schedule).schedules[0].options == {"stall": seconds}


def test_a_rule_has_the_radius_of_all_unless_it_has_its_own(tmp_path: Path) -> None:
    text = MINIMAL + "actions: {blast_radius: {databases: 5, share: 20%, within: 1h}}\n" + RULE
    own = text + RULE.removeprefix("rules:\n").replace("wal", "own", 1) + "    blast_radius: {databases: 1}\n"
    first, second = loaded(tmp_path, own).rules
    assert (first.radius.databases, first.radius.share, first.radius.within) == (5, 0.2, 3600.0)
    assert (second.radius.databases, second.radius.share, second.radius.within) == (1, 0.1, 600.0)


def test_a_backup_without_a_place_is_warned_of(tmp_path: Path) -> None:
    place = "    backup: {directory: /b}\n"
    schedule = 'schedules:\n  - {name: s, cron: "0 3 * * *", do: backup}\n'
    (warning,) = loaded(tmp_path, MINIMAL + schedule).warnings
    assert "schedules[0].do: queue has no backup directory" in warning
    assert loaded(tmp_path, MINIMAL + place + schedule).warnings == ()
    two = MINIMAL + "  - path: /var/lib/app/mail.db\n" + place
    assert len(loaded(tmp_path, two + schedule).warnings) == 1
    assert loaded(tmp_path, two + schedule.replace("backup}", "backup, databases: [mail]}")).warnings == ()
    (ruled,) = loaded(tmp_path, MINIMAL + RULE.replace("do: checkpoint", "do: backup")).warnings
    assert "rules[0].do" in ruled


def test_who_may_act_is_read_and_known(tmp_path: Path) -> None:
    allow = "actions: {enabled: true, allow: {users: [ann], client_sans: [am.example]}}\n"
    acting = loaded(tmp_path, MINIMAL + allow).acting
    assert (acting.users, acting.client_sans, acting.has_allowed_callers) == ({"ann"}, {"am.example"}, True)
    assert not loaded(tmp_path, MINIMAL + "actions: {enabled: true}\n").acting.has_allowed_callers


ACTING = MINIMAL + "actions:\n  enabled: true\n  allow:\n    token_files: [token]\n"


def test_a_token_file_open_to_others_is_refused_with_the_cure(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "token").chmod(0o640)
    (line,) = errors(tmp_path, ACTING)
    assert line == (
        f"6: actions.allow.token_files[0]: {tmp_path}/token is open to others "
        f"(mode 0640); run: chmod 600 {tmp_path}/token"
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "has no token in it"), ("# only a comment\n\n", "has no token in it"), (None, "cannot be read")],
)
def test_a_token_file_without_a_token_is_refused(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "token").write_text(content)
        (tmp_path / "token").chmod(0o600)
    (line,) = errors(tmp_path, ACTING)
    assert says in line


def test_a_fifo_for_a_token_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token", 0o600)
    (line,) = errors(tmp_path, ACTING)
    assert "is not a regular file" in line


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_token_file_of_another_user_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    (tmp_path / "token").chmod(0o600)
    os.chown(tmp_path / "token", 12345, 12345)
    (line,) = errors(tmp_path, ACTING)
    assert "belongs to uid 12345" in line


def test_several_tokens_in_a_file_are_all_valid_for_rotation(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("new\n# old one until Friday\nold\n")
    (tmp_path / "token").chmod(0o600)
    assert len(set(loaded(tmp_path, ACTING).acting.token_digests)) == 2


def test_token_files_are_not_read_while_acting_is_off(tmp_path: Path) -> None:
    assert loaded(tmp_path, ACTING.replace("true", "false")).acting.token_digests == ()


def test_enabled_without_an_allowed_caller_loads(tmp_path: Path) -> None:
    assert loaded(tmp_path, MINIMAL + "actions: {enabled: true}\n").acting.enabled
