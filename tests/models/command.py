"""The command that converts weights."""

from flipjax.models.__main__ import main


def convert(capsys, *arguments):
    code = main(["convert", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err
