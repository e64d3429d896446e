"""The folder of the local object store: every system call of it.

Paths are walked one part at a time from an open descriptor of the root with O_NOFOLLOW, so that neither
a symlink nor somebody who renames folders meanwhile leads out of it. Synchronous; raises OSError and
BadRequest (local.py translates the former). Safe from several threads and processes.
"""

import errno
import fcntl
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from moonpool.adapters.objects.local_key import INCOMING
from moonpool.core.errors import BadRequest
from moonpool.ports.objects import ObjectInfo

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 100


class Folder:
    """An opened root. Made when absent, for its owner only."""

    def __init__(self, root: Path) -> None:
        self._path = root
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(FileExistsError):
            os.mkdir(INCOMING, 0o700, dir_fd=self._root)
        self.incoming = os.open(INCOMING, _DIRECTORY, dir_fd=self._root)
        self._remove_left_over()

    def close(self) -> None:
        os.close(self.incoming)
        os.close(self._root)

    def ping(self) -> None:
        """Raises OSError when the root is gone, or is another folder than the one that was opened."""
        if not os.path.samestat(os.stat(self._path), os.fstat(self._root)):
            raise FileNotFoundError(errno.ENOENT, "the folder was replaced")

    def open(self, parts: list[str]) -> FileIO:
        with self._parent(parts) as parent:
            # Non-blocking: a pipe that someone put there must not hang us.
            descriptor = os.open(
                parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=parent
            )
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise FileNotFoundError(errno.ENOENT, "not a file")
        return FileIO(descriptor)

    def head(self, parts: list[str]) -> ObjectInfo:
        with self.open(parts) as file:
            return info("/".join(parts), os.fstat(file.fileno()))

    def publish(self, name: str, parts: list[str]) -> None:
        """Move the complete file `name` from the incoming folder to its place, durably."""
        for _ in range(_ATTEMPTS):
            try:
                with self._parent(parts, create=True) as parent:
                    os.rename(name, parts[-1], src_dir_fd=self.incoming, dst_dir_fd=parent)
                    os.fsync(parent)
                return
            except IsADirectoryError as error:
                raise BadRequest("The object key is the beginning of other keys.", param="key") from error
            except FileNotFoundError:
                continue  # a delete has just removed a folder that was empty
        raise OSError(errno.EBUSY, "its folder is removed again and again")

    def delete(self, parts: list[str]) -> None:
        try:
            with self._parent(parts) as parent:
                os.unlink(parts[-1], dir_fd=parent)
                os.fsync(parent)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return
        for depth in range(len(parts) - 1, 0, -1):
            try:
                with self._parent(parts[:depth]) as parent:
                    os.rmdir(parts[depth - 1], dir_fd=parent)
            except OSError:
                return  # not empty, or already gone: both are right

    def scan(self, prefix: str) -> Iterator[ObjectInfo]:
        """In the order of S3: by the keys' UTF-8 bytes."""
        return self._scan(os.dup(self._root), "", prefix)

    # ── inside ─────────────────────────────────────────────────────────────────────────────────────

    @contextmanager
    def _parent(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        descriptor = os.dup(self._root)
        try:
            for part in parts[:-1]:
                following = self._step(descriptor, part, create=create)
                os.close(descriptor)
                descriptor = following
            yield descriptor
        finally:
            os.close(descriptor)

    def _step(self, parent: int, part: str, *, create: bool) -> int:
        if create:
            with suppress(FileExistsError):
                os.mkdir(part, 0o700, dir_fd=parent)
                os.fsync(parent)
        try:
            return os.open(part, _DIRECTORY, dir_fd=parent)
        except NotADirectoryError as error:
            if create or stat.S_ISLNK(os.lstat(part, dir_fd=parent).st_mode):
                raise BadRequest("The object key leads through what is no folder.", param="key") from error
            raise

    def _scan(self, descriptor: int, path: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            with os.scandir(descriptor) as found:
                entries = [
                    (entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)
                    for entry in found
                    if not entry.is_symlink() and (path or entry.name != INCOMING)
                ]
            for name in sorted(entries, key=os.fsencode):
                key = path + name
                try:
                    if not name.endswith("/"):
                        if key.startswith(prefix):
                            about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                            if stat.S_ISREG(about.st_mode):
                                yield info(key, about)
                    elif key.startswith(prefix) or prefix.startswith(key):
                        inner = os.open(name, _DIRECTORY, dir_fd=descriptor)
                        yield from self._scan(inner, key, prefix)
                except (FileNotFoundError, NotADirectoryError):
                    continue  # deleted meanwhile
        finally:
            os.close(descriptor)

    def _remove_left_over(self) -> None:
        """Of writers that died: theirs are the files that nobody has locked."""
        with os.scandir(self.incoming) as found:
            names = [entry.name for entry in found]
        for name in names:
            with suppress(FileNotFoundError, BlockingIOError):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.incoming)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    os.unlink(name, dir_fd=self.incoming)
                finally:
                    os.close(descriptor)


class Writer:
    """One object on its way in: a locked file in the incoming folder. The calls may come from different
    threads, and `discard` while another is still at work."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._name = uuid.uuid4().hex
        self._descriptor = -1
        self._over = False
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        with self._lock:
            descriptor = self._open()
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]

    def publish(self, parts: list[str]) -> ObjectInfo:
        """Make it durable, then visible."""
        with self._lock:
            descriptor = self._open()
            # The kernel's own time stamps are as coarse as its ticks; this one tells contents apart.
            now = time.time_ns()
            os.utime(descriptor, ns=(now, now))
            os.fsync(descriptor)
            about = os.fstat(descriptor)
            self._folder.publish(self._name, parts)
            self._close()
            return info("/".join(parts), about)

    def discard(self) -> None:
        """Leave nothing behind; nothing happens after `publish`."""
        with self._lock:
            self._over = True
            if self._descriptor >= 0:
                with suppress(FileNotFoundError):
                    os.unlink(self._name, dir_fd=self._folder.incoming)
                self._close()

    def _open(self) -> int:
        if self._over:
            raise OSError(errno.ECANCELED, "the write was given up")
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self._name, flags, 0o600, dir_fd=self._folder.incoming)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self._descriptor

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        self._over = True


def info(key: str, about: os.stat_result) -> ObjectInfo:
    """The tag is made of what changes with every put: each one writes a new file."""
    etag = f"{about.st_ino:x}-{about.st_mtime_ns:x}-{about.st_size:x}"
    return ObjectInfo(key, about.st_size, about.st_mtime, etag)
