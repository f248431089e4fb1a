"""The output of an audit: sentences, tables, charts, its page and its folder."""
