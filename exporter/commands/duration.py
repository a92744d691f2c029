"""A time as an option of a command."""

import click

from exporter.config.sizes import parse_duration


class DurationParam(click.ParamType[float]):
    """A time on the command line: `300s`, `5m`, `26h`, `7d`; 0 needs no unit."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds."""
        try:
            return 0.0 if value == "0" else parse_duration(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = DurationParam()
