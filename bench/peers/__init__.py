"""The servers under test: how each is started, and which processes of it do the work."""
