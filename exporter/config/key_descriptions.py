"""The meaning of each key of the configuration file, for docs/configuration.md; a test compares the keys with the schema."""

from collections.abc import Mapping

_DATABASES = {
    "databases[]": "The queues to watch.",
    "databases[].path": "The file, or a glob of files. State, backups and partial files of queuekeeper never match.",
    "databases[].name": "The label `database`. By default the file's stem; of equal stems the shortest distinguishing "
    "parent path. A glob takes the names from the files.",
    "databases[].profile": "The layout of the queue: `auto` detects it by the tables; or the name of a shipped profile "
    "(`queuekeeper profiles list`) or the path of your own ([profiles.md](profiles.md)).",
    "databases[].owner_sqlite": "The SQLite version that the application loads: it shows that the application is free of the "
    "WAL-reset bug ([safety.md](safety.md)).",
    "databases[].settings": "Settings of the profile, like `grace: 60s`; `config explain` shows them.",
    "databases[].backup": "The backups of the database; without this key none are read or taken.",
    "databases[].backup.directory": "Each database gets its own folder below it.",
    "databases[].backup.keep": "Which backups `prune` keeps. It never deletes the newest verified backup.",
    "databases[].backup.keep.last": "The newest N backups, of any age.",
    "databases[].backup.keep.hourly": "One backup for each of the last N hours that have a backup.",
    "databases[].backup.keep.daily": "The same for days.",
    "databases[].backup.keep.weekly": "The same for weeks.",
    "databases[].backup.keep.monthly": "The same for months.",
    "databases[].backup.compress": "The compression of backup files.",
}
_LOOKING = {
    "identity": "The label `instance` of this agent in Prometheus: with it, an alert of another agent never acts here.",
    "poll": "How often databases are read.",
    "poll.interval": "Between two readings of a database.",
    "poll.slow_interval": "Between two slow readings: the layout of pages.",
    "poll.rescan": "Between two listings of the files that match a glob.",
    "limits": "How long queuekeeper may hold what the application needs, and how much disk space it may use.",
    "limits.write_lock": "The longest hold of the write lock.",
    "limits.checkpoint_wait": "The longest wait of a checkpoint for readers.",
    "limits.read_wal": "The longest read of a WAL database.",
    "limits.read_rollback": "The longest read of a database with a rollback journal: writers wait for it.",
    "limits.wal_growth": "How far the WAL may grow because of queuekeeper.",
    "limits.disk_reserve": "The free space that is left on every disk that queuekeeper writes to.",
}
_ACTING = {
    "actions": "Whether actions may run, for which callers, and within which bounds.",
    "actions.enabled": "Without it queuekeeper only observes.",
    "actions.allow": "The callers that may start an action over HTTP.",
    "actions.allow.token_files": "Files with one token a line, mode 0600: `Authorization: Bearer TOKEN`."
    " The history calls who sent it by the file's name.",
    "actions.allow.users": "Users of the web configuration file.",
    "actions.allow.client_sans": "Names in a client's certificate.",
    "actions.windows": "For each action `HH:MM-HH:MM`: when automatic runs of it may start. `vacuum` and `purge` need one.",
    "actions.concurrency": "How many actions may run at once.",
    "actions.concurrency.short": "Checkpoints, requeues and the like.",
    "actions.concurrency.long": "Backups, drills, vacuums.",
    "actions.quota_per_hour": "The most automatic runs per database and hour.",
    "actions.blast_radius": "On how many databases a rule may start runs within a time: the larger of a number and a share.",
    "actions.blast_radius.databases": "A number of databases.",
    "actions.blast_radius.share": "A share of all watched databases.",
    "actions.blast_radius.within": "The time.",
    "actions.fresh_backup": "The highest age of the newest verified backup at which destructive actions run automatically.",
    "actions.checkpoint_vulnerable_owner": "Allow every kind of checkpoint when the application may have the "
    "WAL-reset bug: it can lose commits.",
}
_RULES = {
    "rules[]": "A condition, the action for it, and the triggers that may start it.",
    "rules[].name": "The label `rule`, and the name in the history.",
    "rules[].when.NAME": "NAME is a metric of a database ([metrics.md](metrics.md)); one of `above`, `below`, `absent`.",
    "rules[].when.NAME.above": "Wrong above this value.",
    "rules[].when.NAME.below": "Wrong below this value.",
    "rules[].when.NAME.clear": "The value at which it counts as healed; by default the bound.",
    "rules[].when.NAME.absent": "Wrong when there was no value for this long.",
    "rules[].when.NAME.where": "Only values with these labels, like `{queue: mail}`.",
    "rules[].on": "The triggers: a threshold, alerts, or both.",
    "rules[].on.threshold": "Start it by queuekeeper's own readings.",
    "rules[].on.threshold.for": "How long the condition must hold first.",
    "rules[].on.alert": 'Start it by alerts with these matchers of Alertmanager, like `alertname="QueueWalBacklog"`.',
    "rules[].do": "The action.",
    "rules[].options": "Its options ([commands.md](commands.md)).",
    "rules[].cooldown": "The least time between two automatic runs of the action on a database, by any trigger.",
    "rules[].databases": "Only these; by default all.",
    "rules[].priority": "Pending runs with a higher number start first.",
    "rules[].blast_radius": "Instead of `actions.blast_radius`, for this rule.",
    "rules[].blast_radius.databases": "A number of databases.",
    "rules[].blast_radius.share": "A share of all watched databases.",
    "rules[].blast_radius.within": "The time.",
}
_TIMES = {
    "schedules[]": "An action and its times.",
    "schedules[].name": "The label `schedule`, and the name in the history.",
    "schedules[].cron": "Minute, hour, day of the month, month, day of the week.",
    "schedules[].do": "The action.",
    "schedules[].timezone": "Its own time zone instead of `timezone`.",
    "schedules[].jitter": "Start up to this much later: each database has its own delay, always the same.",
    "schedules[].catch_up": "A missed time still starts a run when it is no older than this; by default it is only counted.",
    "schedules[].priority": "Pending runs with a higher number start first.",
    "schedules[].options": "Its options.",
    "schedules[].databases": "Only these; by default all.",
    "state": "The folder of queuekeeper's history: best on a disk of its own, never beside the application's database.",
    "timezone": "The time zone of schedules and windows; by default UTC.",
}
KEY_DESCRIPTIONS: Mapping[str, str] = {**_DATABASES, **_LOOKING, **_ACTING, **_RULES, **_TIMES}
