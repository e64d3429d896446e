"""Documents of the config server: how they are named, checked, compared and changed, and how they travel.

Pure, and shared by all who read or write one: the config server, the processes that follow it, the command
line, and whoever reads the file given to `up`.
"""
