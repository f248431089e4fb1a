"""The report of a run folder: figures, tables and a page. `python -m flipjax.report WORKDIR` makes it again."""
