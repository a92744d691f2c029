"""What each key of the configuration file means, for docs/configuration.md; a test holds it equal to the schema."""

from collections.abc import Mapping

_DATABASES = {
    "databases[]": "The queues to watch.",
    "databases[].path": "The file, or a glob of files. Our own state, backups and partial files never match.",
    "databases[].name": "The label `database`. By default the file's stem; of equal stems the shortest distinguishing "
    "parent path. A glob takes the names from the files.",
    "databases[].profile": "How the queue is laid out: `auto` looks at the tables, else a shipped profile "
    "(`queuekeeper profiles list`) or a path to your own ([profiles.md](profiles.md)).",
    "databases[].owner_sqlite": "The SQLite version that the application loads: proof that it is not exposed to the "
    "WAL-reset bug ([safety.md](safety.md)).",
    "databases[].settings": "Settings of the profile, like `grace: 60s`; `config explain` shows them.",
    "databases[].backup": "Without it no backups are looked at or taken.",
    "databases[].backup.directory": "Each database gets its own folder below it.",
    "databases[].backup.keep": "Which backups stay when old ones are thinned out. The newest verified one always stays.",
    "databases[].backup.keep.last": "The newest, whatever their age.",
    "databases[].backup.keep.hourly": "One for each of the last hours that have one.",
    "databases[].backup.keep.daily": "One for each of the last days.",
    "databases[].backup.keep.weekly": "One for each of the last weeks.",
    "databases[].backup.keep.monthly": "One for each of the last months.",
    "databases[].backup.compress": "How backups are stored.",
}
_LOOKING = {
    "identity": "What Prometheus calls this agent (`instance`): with it, an alert of another agent never acts here.",
    "poll": "How often to look.",
    "poll.interval": "Between two readings of a database.",
    "poll.slow_interval": "Between two readings of what is slow: the layout of pages.",
    "poll.rescan": "Between two looks for files that match a glob.",
    "limits": "How long we may hold what the application needs, and how much room we may take.",
    "limits.write_lock": "The write lock, at a time.",
    "limits.checkpoint_wait": "A checkpoint's wait for readers.",
    "limits.read_wal": "One read of a WAL database.",
    "limits.read_rollback": "One read of a database with a rollback journal: writers wait for it.",
    "limits.wal_growth": "How far the WAL may grow because of us.",
    "limits.disk_reserve": "What stays free on every disk that we write to.",
}
_ACTING = {
    "actions": "The right to act, and its bounds.",
    "actions.enabled": "Without it queuekeeper only observes.",
    "actions.allow": "Who may ask for an action over HTTP.",
    "actions.allow.token_files": "Files with one token a line, mode 0600: `Authorization: Bearer TOKEN`.",
    "actions.allow.users": "Users of the web configuration file.",
    "actions.allow.client_sans": "Names in a client's certificate.",
    "actions.windows": "Action to `HH:MM-HH:MM`: when automatic runs of it may begin. `vacuum` and `purge` need one.",
    "actions.concurrency": "How many actions run at once.",
    "actions.concurrency.short": "Checkpoints, requeues and the like.",
    "actions.concurrency.long": "Backups, drills, vacuums.",
    "actions.quota_per_hour": "Automatic runs per database.",
    "actions.blast_radius": "On how many databases a rule may begin to act within a time: a number or a share, the larger.",
    "actions.blast_radius.databases": "A number of databases.",
    "actions.blast_radius.share": "A share of all watched databases.",
    "actions.blast_radius.within": "The time.",
    "actions.fresh_backup": "Destructive automatic actions need a verified backup this young.",
    "actions.checkpoint_vulnerable_owner": "Allow every kind of checkpoint beside an application that may have the "
    "WAL-reset bug: it can lose commits.",
}
_RULES = {
    "rules[]": "What is wrong, what to do about it, what may start it.",
    "rules[].name": "The label `rule`, and the name in the history.",
    "rules[].when.NAME": "NAME is a metric of a database ([metrics.md](metrics.md)); one of `above`, `below`, `absent`.",
    "rules[].when.NAME.above": "Wrong above this value.",
    "rules[].when.NAME.below": "Wrong below this value.",
    "rules[].when.NAME.clear": "Where it counts as healed; by default at the bound.",
    "rules[].when.NAME.absent": "Wrong when there was no value for this long.",
    "rules[].when.NAME.where": "Only values with these labels, like `{queue: mail}`.",
    "rules[].on": "What may start it: one of the two, or both.",
    "rules[].on.threshold": "Our own readings.",
    "rules[].on.threshold.for": "For how long the condition must hold.",
    "rules[].on.alert": 'Alertmanager\'s matchers, like `alertname="QueueWalBacklog"`.',
    "rules[].do": "The action.",
    "rules[].options": "Its options ([commands.md](commands.md)).",
    "rules[].cooldown": "Between two automatic runs of the action on a database, whatever started them.",
    "rules[].databases": "Only these; by default all.",
    "rules[].priority": "The higher goes first.",
    "rules[].blast_radius": "Instead of `actions.blast_radius`, for this rule.",
    "rules[].blast_radius.databases": "A number of databases.",
    "rules[].blast_radius.share": "A share of all watched databases.",
    "rules[].blast_radius.within": "The time.",
}
_TIMES = {
    "schedules[]": "What to do at which times.",
    "schedules[].name": "The label `schedule`, and the name in the history.",
    "schedules[].cron": "Minute, hour, day of the month, month, day of the week.",
    "schedules[].do": "The action.",
    "schedules[].timezone": "Its own time zone instead of `timezone`.",
    "schedules[].jitter": "Begin up to this much later, each database at a time of its own, always the same.",
    "schedules[].catch_up": "A missed time is made up when it is no older than this; by default it is only counted.",
    "schedules[].priority": "The higher goes first.",
    "schedules[].options": "Its options.",
    "schedules[].databases": "Only these; by default all.",
    "state": "The folder of our own history: a disk of its own is best, never beside the application's database.",
    "timezone": "Of schedules and windows; by default UTC.",
}
KEY_DESCRIPTIONS: Mapping[str, str] = {**_DATABASES, **_LOOKING, **_ACTING, **_RULES, **_TIMES}
