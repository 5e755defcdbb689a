"""The report: `figures` draws frames, `page` puts figures on one self-contained HTML page."""
