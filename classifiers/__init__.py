"""Learning and applying labels: language, harm, quality, domain."""
