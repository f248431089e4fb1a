"""The report of a run folder: figures, tables and a page. `flipjax report RUN` makes it again."""
