"""What an audit writes: sentences, tables, charts, its page and its folder."""
