"""What commands print: tables, progress, and errors on one line."""
