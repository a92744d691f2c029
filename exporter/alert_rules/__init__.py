"""Alert rules for Prometheus, built from the table of thresholds; each alert has a section in docs/runbook.md."""
