"""The commands: one module per command, its parser and its run()."""
