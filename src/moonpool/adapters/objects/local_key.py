"""Which keys a folder can hold. What passes here is a relative path that cannot climb."""

from moonpool.core.errors import BadRequest

INCOMING = ".incoming"
"""The folder of what is being written; no object's key begins with it."""
_MAX_KEY_BYTES = 1024  # as S3
_MAX_SEGMENT_BYTES = 255  # NAME_MAX of Linux's and macOS's file systems


def split_key(key: str) -> list[str]:
    """The segments of an object's key. Raises BadRequest, also for keys that S3 would take but no
    folder can hold."""
    segments = key.split("/")
    _check_text(key)
    if any(segment in ("", ".", "..") for segment in segments):
        raise _refused("it must be relative, without empty, `.` or `..` parts")
    if segments[0] == INCOMING:
        raise _refused(f"{INCOMING} is reserved")
    if any(len(segment.encode()) > _MAX_SEGMENT_BYTES for segment in segments):
        raise _refused(f"a part is longer than {_MAX_SEGMENT_BYTES} bytes")
    return segments


def check_prefix(prefix: str) -> None:
    """A prefix may end anywhere in a key, but may not climb either. Raises BadRequest."""
    _check_text(prefix)
    if prefix.startswith("/") or any(segment in (".", "..") for segment in prefix.split("/")[:-1]):
        raise _refused("it must be relative, without `.` or `..` parts")
    if prefix.rsplit("/", 1)[-1] == "..":
        raise _refused("it must be relative, without `.` or `..` parts")


def _check_text(key: str) -> None:
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise _refused("it is not valid Unicode text") from error
    if size > _MAX_KEY_BYTES:
        raise _refused(f"it is longer than {_MAX_KEY_BYTES} bytes")
    if any(character < " " or character == "\x7f" for character in key):
        raise _refused("it has control characters")


def _refused(reason: str) -> BadRequest:
    return BadRequest(f"The object key is refused: {reason}.", param="key")
