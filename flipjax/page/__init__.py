"""Pages: documents, tables, charts and galleries, which reports and audits fill."""
