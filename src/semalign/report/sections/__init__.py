"""The parts of a page, one module each: sentences, tables and figures as plain data."""
