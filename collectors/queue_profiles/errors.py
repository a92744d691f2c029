"""What is raised about a queue profile. Apart from the schema, so that a reader of errors need not load YAML and pydantic."""


class ProfileError(Exception):
    """A profile cannot be used: the message names the file, the place and the cause."""
