"""The commands: a file for each that `credbroker --help` lists, which is imported when the command is used."""
