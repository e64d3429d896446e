"""What the nine services share as ASGI applications: the parts they are given, the caller they are
called for, errors, health. The services themselves hold the domain."""
