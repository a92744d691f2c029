"""How long a test waits for something that must happen."""

# A wait ends with its event; this many seconds without it mean that the event will not come, on however busy a machine.
LONGEST_WAIT = 240.0
