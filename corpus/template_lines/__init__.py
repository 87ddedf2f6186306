"""Lines that stand in many documents of one source: the template of the site, not its content."""
