"""`python -m exporter.commands`: the command line without the installed script."""

from exporter.commands.main import main

main()
