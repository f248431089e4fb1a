"""How a whole folder is made strange: each of these returns what changes one, and returns options for the command."""

import os
import pathlib

from doors.files import write


def nothing(root):
    """The folder as it is."""


def both(*harms):
    """Several, one after the other."""
    return lambda root: [part for harm in harms for part in harm(root) or ()]


def options(*arguments):
    """A whole folder, and options."""
    return lambda root: arguments


def option(name, path):
    """A whole folder, and an option that names a path below it."""
    return lambda root: (name, root / path)


def put(name, content):
    """Writes a file of the folder."""
    return lambda root: write(root / name, content)


def edited(name, edit):
    """A file's text is edited into text or bytes."""
    return lambda root: write(root / name, edit((root / name).read_text()))


def renamed(old, new):
    """Renames a file or a folder; bytes are names that are no UTF-8."""
    return lambda root: os.rename(os.fsencode(root / old), os.path.join(os.fsencode(root), new))


def replaced(name, make):
    """Makes something else in the place of a file or a folder."""

    def harm(root):
        if os.path.lexists(root / name):
            (root / name).rename(root / "away")
        make(root / name)

    return harm


def fifo(name):
    """Makes a FIFO."""
    return replaced(name, os.mkfifo)


def folder(name):
    """Makes a folder."""
    return replaced(name, os.mkdir)


def file(name):
    """Makes an empty file."""
    return replaced(name, pathlib.Path.touch)


def linked(name, target):
    """Makes a link."""
    return replaced(name, lambda path: path.symlink_to(target))


def sparse(name, size):
    """Makes a file as large as one says, without writing it."""

    def make(path):
        with open(path, "wb") as stream:
            stream.truncate(size)

    return replaced(name, make)
