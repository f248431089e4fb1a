"""The report of a run folder: figures, tables and a page. `flipjax report RUN` rebuilds it."""
