"""Rules: opinions about signals, as thresholds in YAML."""
