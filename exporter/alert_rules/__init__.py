"""Prometheus' alert rules, made of the one table of thresholds; each has a section in docs/runbook.md."""
