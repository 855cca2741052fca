"""The command line: arguments, what commands print, the demo."""
